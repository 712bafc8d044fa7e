"""The embedded server's protobuf against a real API server: what it writes is read there, and the other way round."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from polyvisor.kube.config import from_kubeconfig
from polyvisor.standalone.apiserver import protobuf
from tests.e2e.cluster import Cluster, cluster
from tests.e2e.goprograms import NoGo

pytestmark = pytest.mark.e2e
Obj = dict[str, Any]
HEADERS = {"content-type": protobuf.MEDIA, "accept": protobuf.MEDIA}
OBJECTS: dict[str, Obj] = {
    "/api/v1/namespaces/default/pods": {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "one", "labels": {"a": "b"}, "finalizers": ["example.com/held"]},
        "spec": {
            "automountServiceAccountToken": False,
            "priority": 0,
            "containers": [
                {
                    "name": "c",
                    "image": "none",
                    "ports": [{"containerPort": 80}],
                    "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                    "envFrom": [{"configMapRef": {"name": "m", "optional": False}}],
                    "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
                    "livenessProbe": {"httpGet": {"path": "/", "port": "web"}, "initialDelaySeconds": 3},
                    "readinessProbe": {"tcpSocket": {"port": 80}},
                    "securityContext": {"runAsNonRoot": True, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                }
            ],
            "securityContext": {"supplementalGroups": [1, 70000], "fsGroup": 0},
            "tolerations": [{"key": "k", "operator": "Exists", "tolerationSeconds": 0, "effect": "NoExecute"}],
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}],
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [{"matchExpressions": [{"key": "k", "operator": "DoesNotExist"}]}]
                    }
                }
            },
        },
    },
    "/apis/coordination.k8s.io/v1/namespaces/default/leases": {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "one"},
        "spec": {
            "holderIdentity": "me",
            "leaseDurationSeconds": 15,
            "acquireTime": "2026-01-02T03:04:05.000006Z",
            "renewTime": "2026-01-02T03:04:05.100000Z",
            "leaseTransitions": 0,
        },
    },
    "/api/v1/namespaces/default/persistentvolumeclaims": {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "one"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    },
    "/api/v1/namespaces/default/events": {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "one"},
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "one"},
        "reason": "Tried",
        "message": "words: ä",
        "type": "Normal",
        "count": 3,
        "firstTimestamp": "2026-01-02T03:04:05Z",
        "source": {"component": "me"},
    },
    "/api/v1/nodes": {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "one", "annotations": {"a": ""}},
        "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}], "unschedulable": True},
    },
    "/api/v1/namespaces/default/secrets": {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "one"},
        "type": "Opaque",
        "data": {"k": "AAECgP8="},
    },
    "/api/v1/namespaces/default/services": {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "one"},
        "spec": {"selector": {"a": "b"}, "ports": [{"port": 80, "targetPort": "web"}]},
    },
}


@pytest.fixture(scope="module")
def server() -> Iterator[httpx.Client]:
    try:
        with cluster() as one:
            yield from _client(one)
    except NoGo as missing:
        pytest.fail(str(missing))


def _client(one: Cluster) -> Iterator[httpx.Client]:
    found = from_kubeconfig(one.kubeconfig)
    authorization = {"authorization": found.authorization()}
    context = found.ssl_context or ssl.create_default_context()
    with httpx.Client(base_url=found.server, verify=context, headers=authorization, trust_env=False) as client:
        account = {"metadata": {"name": "default"}}
        client.post("/api/v1/namespaces/default/serviceaccounts", json=account).raise_for_status()
        yield client


@pytest.mark.parametrize("path", OBJECTS, ids=[one["kind"] for one in OBJECTS.values()])
def test_a_real_server_reads_and_writes_the_same(server: httpx.Client, path: str) -> None:
    """An object that is created as protobuf is, as JSON, what the server's protobuf says of it."""
    made = server.post(path, content=protobuf.encode(OBJECTS[path]), headers=HEADERS)
    assert made.status_code == 201, made.content
    assert made.headers["content-type"] == protobuf.MEDIA
    plain = server.get(f"{path}/one").json()
    assert protobuf.decode(server.get(f"{path}/one", headers=HEADERS).content) == _set(plain)
    asked, got = OBJECTS[path], plain
    for part in ("spec", "data", "involvedObject", "reason", "message", "count"):
        if part in asked:
            assert _within(asked[part], got[part]), (asked[part], got[part])
    again = {**plain, "metadata": {**plain["metadata"], "labels": {"changed": "yes"}}}
    written = server.put(f"{path}/one", content=protobuf.encode(again), headers=HEADERS)
    assert written.status_code == 200, written.content
    assert server.get(f"{path}/one").json()["metadata"]["labels"]["changed"] == "yes"


def _set(obj: Any) -> Any:
    """Leave out what is null: protobuf has no word for it."""
    if isinstance(obj, dict):
        return {name: _set(one) for name, one in obj.items() if one is not None}
    return [_set(one) for one in obj] if isinstance(obj, list) else obj


def _within(asked: Any, got: Any) -> bool:
    """Whether everything that was asked is there, beside what the server filled in."""
    if isinstance(asked, dict):
        return isinstance(got, dict) and all(name in got and _within(one, got[name]) for name, one in asked.items())
    if isinstance(asked, list):
        return isinstance(got, list) and len(got) >= len(asked) and all(map(_within, asked, got))
    return bool(asked == got)
