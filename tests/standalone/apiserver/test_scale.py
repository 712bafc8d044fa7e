"""The scale subresource, as kubectl and an autoscaler use it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Running

Obj = dict[str, Any]
SETS = "/apis/kubevirt.io/v1/namespaces/default/virtualmachineinstancereplicasets"


def replica_set(name: str = "web") -> Obj:
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstanceReplicaSet",
        "metadata": {"name": name},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": {"spec": {"domain": {}}}},
    }


async def test_kubectl_scales(server: Running) -> None:
    await server.post(SETS, replica_set())
    said = await server.kubectl("scale", "vmirs", "web", "--replicas=3")
    assert "scaled" in said.out
    found = await server.json("get", "vmirs", "web")
    assert (found["spec"]["replicas"], found["metadata"]["generation"]) == (3, 2)
    assert found["spec"]["selector"] == {"matchLabels": {"app": "web"}}
    wrong = await server.kubectl("scale", "vmirs/web", "--current-replicas=1", "--replicas=5", check=False)
    assert wrong.code != 0
    await server.kubectl("scale", "vmirs/web", "--current-replicas=3", "--replicas=0")
    assert (await server.json("get", "vmirs", "web"))["spec"]["replicas"] == 0
    patch = ("--type=merge", "-p", '{"spec":{"replicas":-1}}')
    below = await server.kubectl("patch", "vmirs/web", "--subresource=scale", *patch, check=False)
    assert "spec.replicas" in below.err


async def test_get_shows_the_columns(server: Running) -> None:
    await server.post(SETS, replica_set())
    lines = (await server.kubectl("get", "vmirs")).out.splitlines()
    assert lines[0].split() == ["NAME", "DESIRED", "CURRENT", "READY", "AGE"]
    assert lines[1].split()[:2] == ["web", "1"]


async def test_an_autoscaler_reads_replicas_and_selector(server: Running) -> None:
    await server.post(SETS, replica_set())
    status = {"status": {"replicas": 1, "labelSelector": "app=web"}}
    headers = {"content-type": "application/merge-patch+json"}
    answer = await server.client.patch(f"{SETS}/web/status", content=json.dumps(status), headers=headers)
    assert answer.status_code == 200, answer.text
    scale = (await server.client.get(f"{SETS}/web/scale")).json()
    assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert scale["spec"] == {"replicas": 1}
    assert scale["status"] == {"replicas": 1, "selector": "app=web"}
    scale["spec"]["replicas"] = 4
    assert (await server.client.put(f"{SETS}/web/scale", json=scale)).json()["spec"] == {"replicas": 4}
    late = await server.client.put(f"{SETS}/web/scale", json=scale)
    assert late.status_code == 409


@pytest.mark.parametrize("body", [{"kind": "Pod"}, [], {"spec": {"replicas": "two"}}])
async def test_a_body_that_is_no_scale_is_refused(server: Running, body: Any) -> None:
    await server.post(SETS, replica_set())
    assert (await server.client.put(f"{SETS}/web/scale", json=body)).status_code == 400
    assert (await server.client.get(f"{SETS}/no/scale")).status_code == 404
    assert (await server.client.delete(f"{SETS}/web/scale")).status_code == 405


async def test_discovery_names_the_kind_of_the_subresource(server: Running) -> None:
    listed = (await server.client.get("/apis/kubevirt.io/v1")).json()["resources"]
    (scale,) = [one for one in listed if one["name"].endswith("/scale")]
    assert (scale["group"], scale["version"], scale["kind"]) == ("autoscaling", "v1", "Scale")
    (status,) = [one for one in listed if one["name"] == "virtualmachineinstancereplicasets/status"]
    assert "group" not in status


async def test_a_revision_cannot_be_changed(server: Running) -> None:
    path = "/apis/apps/v1/namespaces/default/controllerrevisions"
    revision = {"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": "r"}, "revision": 1}
    await server.post(path, {**revision, "data": {"spec": {"a": 1}}})
    headers = {"content-type": "application/merge-patch+json"}
    changed = await server.client.patch(f"{path}/r", content='{"data":{"spec":{"a":2}}}', headers=headers)
    assert changed.status_code == 422
    assert "immutable" in changed.json()["message"]
    assert (await server.kubectl("get", "controllerrevisions")).out.split()[:4] == [
        "NAME",
        "CONTROLLER",
        "REVISION",
        "AGE",
    ]
