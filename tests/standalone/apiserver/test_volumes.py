"""PersistentVolumes: what is accepted, how they are shown, and their form for Go clients."""

from __future__ import annotations

import copy
from typing import Any

import httpx
import pytest

from polyvisor.standalone.apiserver import protobuf

from .conftest import Obj, Running, is_status

VOLUMES = "/api/v1/persistentvolumes"
VOLUME: Obj = {
    "apiVersion": "v1",
    "kind": "PersistentVolume",
    "metadata": {"name": "web-vda"},
    "spec": {
        "capacity": {"storage": "10Gi"},
        "accessModes": ["ReadWriteOnce", "ReadOnlyMany"],
        "volumeMode": "Block",
        "storageClassName": "fast",
        "persistentVolumeReclaimPolicy": "Retain",
        "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": "default", "name": "web"},
        "csi": {
            "driver": "endpoint.hypervisor.kubevirt.io",
            "volumeHandle": "rack4/images/web.qcow2",
            "volumeAttributes": {"pool": "images", "volume": "web.qcow2"},
        },
        "nodeAffinity": {
            "required": {
                "nodeSelectorTerms": [
                    {
                        "matchExpressions": [
                            {"key": "hypervisor.kubevirt.io/endpoint", "operator": "In", "values": ["rack4"]}
                        ]
                    }
                ]
            }
        },
    },
}


def volume(**spec: Any) -> Obj:
    """Return the volume with other fields in its spec; None takes one away."""
    made = copy.deepcopy(VOLUME)
    made["spec"] = {name: value for name, value in {**made["spec"], **spec}.items() if value is not None}
    return made


def causes(answer: httpx.Response) -> dict[str, str]:
    is_status(answer, 422, "Invalid")
    return {one["field"]: one["message"] for one in answer.json()["details"]["causes"]}


async def test_kubectl_shows_a_volume_as_that_of_a_cluster(server: Running) -> None:
    await server.post(VOLUMES, VOLUME)
    head, row = (await server.kubectl("get", "pv")).out.splitlines()
    wanted = "NAME CAPACITY ACCESS MODES RECLAIM POLICY STATUS CLAIM STORAGECLASS VOLUMEATTRIBUTESCLASS REASON AGE"
    assert head.split() == wanted.split()
    shown = ["web-vda", "10Gi", "RWO,ROX", "Retain", "Pending", "default/web", "fast", "<unset>"]
    assert row.split()[: len(shown)] == shown
    wide = (await server.kubectl("get", "pv", "-o", "wide")).out.splitlines()
    assert (wide[0].split()[-1], wide[1].split()[-1]) == ("VOLUMEMODE", "Block")
    assert "volumeHandle" in (await server.kubectl("explain", "pv.spec.csi")).out


async def test_what_is_left_out_is_what_kubernetes_fills_in(server: Running) -> None:
    made = await server.post(VOLUMES, volume(volumeMode=None, persistentVolumeReclaimPolicy=None, claimRef=None))
    assert made["spec"]["volumeMode"] == "Filesystem"
    assert made["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert made["status"] == {"phase": "Pending"}
    assert made["metadata"]["finalizers"] == ["kubernetes.io/pv-protection"]
    await server.kubectl("delete", "pv", "web-vda", "--wait=false")
    assert "Terminating" in (await server.kubectl("get", "pv")).out


@pytest.mark.parametrize(
    ("spec", "field", "said"),
    [
        ({"capacity": None}, "spec.capacity", "the size is required"),
        ({"capacity": {"storage": "0"}}, "spec.capacity.storage", "greater than zero"),
        ({"capacity": {"storage": "1Gi", "iops": "5"}}, "spec.capacity", "nothing besides"),
        ({"accessModes": []}, "spec.accessModes", "at least one access mode"),
        ({"accessModes": ["ReadWriteTwice"]}, "spec.accessModes[0]", "ReadWriteOncePod"),
        ({"volumeMode": "Tape"}, "spec.volumeMode", "Block and Filesystem"),
        ({"csi": None}, "spec", "csi or local"),
        ({"csi": None, "nfs": {"server": "a", "path": "/"}}, "spec.nfs", "supported are csi or local"),
        ({"csi": {"driver": "d", "volumeHandle": ""}}, "spec.csi.volumeHandle", "name of the volume"),
        ({"csi": {"driver": "d/e", "volumeHandle": "x"}}, "spec.csi.driver", "is not a valid name"),
        ({"local": {"path": "/srv"}}, "spec.local", "one source"),
        ({"csi": None, "local": {"path": "/srv/../etc"}}, "spec.local.path", "without '..'"),
        ({"csi": None, "local": {"path": "/srv"}, "nodeAffinity": None}, "spec.nodeAffinity", "the node that has"),
        ({"nodeAffinity": {}}, "spec.nodeAffinity.required", "are required"),
        ({"persistentVolumeReclaimPolicy": "Burn"}, "spec.persistentVolumeReclaimPolicy", "Retain"),
        ({"claimRef": {"name": "web"}}, "spec.claimRef.namespace", "is required"),
    ],
)
async def test_what_kubernetes_refuses_is_refused(server: Running, spec: Obj, field: str, said: str) -> None:
    assert said in causes(await server.client.post(VOLUMES, json=volume(**spec)))[field]


async def test_where_a_volume_is_cannot_be_changed(server: Running) -> None:
    made = await server.post(VOLUMES, VOLUME)
    made["spec"]["csi"]["volumeHandle"] = "rack4/images/other.qcow2"
    assert "create another volume" in causes(await server.client.put(f"{VOLUMES}/web-vda", json=made))["spec.csi"]


async def test_a_go_client_writes_and_reads_protobuf(server: Running) -> None:
    media = {"content-type": protobuf.MEDIA, "accept": protobuf.MEDIA}
    answer = await server.client.post(VOLUMES, content=protobuf.encode(VOLUME), headers=media)
    assert answer.status_code == 201, answer.text
    made = protobuf.decode(answer.content)
    assert made["spec"] == VOLUME["spec"]
