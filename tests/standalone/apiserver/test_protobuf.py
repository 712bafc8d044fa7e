"""Bodies and answers in Kubernetes' protobuf; ``tests/e2e/test_protobuf.py`` holds them against a real API server."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

import pytest

from polyvisor.kube import wire
from polyvisor.standalone.apiserver import protobuf
from polyvisor.standalone.apiserver.errors import StatusError

from .conftest import PODS, VMI, Obj, Running, is_status

LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
PROTOBUF = {"content-type": protobuf.MEDIA, "accept": f"{protobuf.MEDIA},application/json"}
LEASE: Obj = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"name": "leader", "namespace": "default", "labels": {"a": "b"}},
    "spec": {
        "holderIdentity": "",
        "leaseDurationSeconds": 15,
        "acquireTime": "2026-01-02T03:04:05.000006Z",
        "leaseTransitions": 0,
    },
}
POD: Obj = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "namespace": "default", "creationTimestamp": "2026-01-02T03:04:05Z"},
    "spec": {
        "automountServiceAccountToken": False,
        "containers": [
            {
                "name": "c",
                "image": "i",
                "resources": {"requests": {"cpu": "10m"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 3},
                "readinessProbe": {"tcpSocket": {"port": 80}},
                "envFrom": [{"configMapRef": {"name": "m"}}],
            }
        ],
        "securityContext": {"supplementalGroups": [1, 70000]},
        "volumes": [{"name": "v", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "x", "defaultMode": 256}}],
    },
    "status": {},
}


@pytest.mark.parametrize("obj", [LEASE, POD], ids=["Lease", "Pod"])
def test_an_object_comes_back_as_it_was(obj: Obj) -> None:
    assert protobuf.decode(protobuf.encode(obj)) == obj


def test_the_bytes_are_those_of_the_published_field_numbers() -> None:
    """Written by hand from the generated.proto of coordination/v1 and runtime."""
    spec = b"\x0a\x02me" + b"\x10\x0f"
    metadata = b"\x0a\x01x"
    lease = b"\x0a" + bytes([len(metadata)]) + metadata + b"\x12" + bytes([len(spec)]) + spec
    kind = b"\x0a\x16coordination.k8s.io/v1" + b"\x12\x05Lease"
    body = b"k8s\x00" + b"\x0a" + bytes([len(kind)]) + kind + b"\x12" + bytes([len(lease)]) + lease
    obj = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "x"},
        "spec": {"holderIdentity": "me", "leaseDurationSeconds": 15},
    }
    assert protobuf.encode(obj) == body
    assert protobuf.decode(body) == obj


async def test_an_operator_takes_and_renews_a_lease(server: Running) -> None:
    """What client-go's leader election does: protobuf both ways."""
    answer = await server.client.post(LEASES, content=protobuf.encode(LEASE), headers=PROTOBUF)
    assert answer.status_code == 201, answer.text
    assert answer.headers["content-type"] == protobuf.MEDIA
    made = protobuf.decode(answer.content)
    assert made["spec"] == LEASE["spec"]
    made["spec"]["holderIdentity"] = "me"
    renewed = await server.client.put(f"{LEASES}/leader", content=protobuf.encode(made), headers=PROTOBUF)
    assert protobuf.decode(renewed.content)["spec"]["holderIdentity"] == "me"
    assert (await server.client.get(f"{LEASES}/leader")).json()["spec"]["holderIdentity"] == "me"


async def test_lists_and_watches(server: Running) -> None:
    await server.post(PODS, {**POD, "metadata": {"name": "p"}})
    only = {"accept": protobuf.MEDIA}
    answer = await server.client.get(PODS, headers=only)
    assert answer.headers["content-type"] == protobuf.MEDIA
    envelope: dict[int, Any] = dict(wire.fields(answer.content[4:]))
    assert b"PodList" in envelope[1]
    assert [number for number, _ in wire.fields(envelope[2])] == [1, 2]
    url = f"{PODS}?watch=1&timeoutSeconds=1"
    async with server.client.stream("GET", url, headers=only) as stream:
        assert stream.headers["content-type"] == protobuf.WATCH_MEDIA
        data = await stream.aread()
    (size,) = struct.unpack(">I", data[:4])
    event: dict[int, Any] = dict(wire.fields(data[4 : 4 + size]))
    raw: dict[int, Any] = dict(wire.fields(event[2]))
    assert event[1] == b"ADDED"
    assert protobuf.decode(raw[1])["metadata"]["name"] == "p"


async def test_what_has_no_protobuf_form(server: Running) -> None:
    only = {"accept": protobuf.MEDIA}
    assert "application/json" in is_status(await server.client.get(VMI, headers=only), 406, "NotAcceptable")
    body = protobuf.encode(LEASE).replace(b"\x05Lease", b"\x05Thing")
    message = is_status(await server.client.post(LEASES, content=body, headers=PROTOBUF), 415, "UnsupportedMediaType")
    assert "Thing" in message
    is_status(await server.client.post(LEASES, content=b"k8s\x00\xff", headers=PROTOBUF), 400, "BadRequest")
    is_status(await server.client.post(LEASES, content=b"nonsense", headers=PROTOBUF), 400, "BadRequest")


def test_broken_bytes_are_refused_and_nothing_else() -> None:
    """Whatever a client sends, the answer is an object or a refusal."""
    source = random.Random(1)
    whole = protobuf.encode(POD)
    refused = 0
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(source.randint(1, 4)):
            data[source.randrange(4, len(data))] = source.randrange(256)
        try:
            json.dumps(protobuf.decode(bytes(data[: source.randint(5, len(data))])))
        except StatusError:
            refused += 1
    assert refused > 1000
