"""Nodes that fall silent or go, and when a machine counts as gone with its Pod."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from polyvisor.api.resources import EVENTS, NODES, VMIS
from polyvisor.controllers import vmi as vmi_module
from polyvisor.controllers.budgets import budget_of, wants_budget
from polyvisor.controllers.nodes import HEARTBEAT_TIMEOUT, NodeController, may_hold, trouble
from polyvisor.controllers.objects import condition, now, stamp
from polyvisor.kube import EventRecorder, Informer
from polyvisor.kube.tasks import end_task

from .conftest import World

Obj = dict[str, Any]
LONG_AGO = stamp(now() - HEARTBEAT_TIMEOUT - timedelta(seconds=5))


def a_node(heard: str | None = None, ready: str | None = None, taint: str = "") -> Obj:
    metadata: Obj = {"name": "n1", "annotations": {"kubevirt.io/heartbeat": heard} if heard else {}}
    conditions = [{"type": "Ready", "status": ready, "message": "Kubelet stopped posting."}] if ready else []
    return {
        "metadata": metadata,
        "spec": {"taints": [{"key": taint}] if taint else []},
        "status": {"conditions": conditions},
    }


@pytest.mark.parametrize(
    ("node", "said", "holds"),
    [
        (None, "there is no Node n1 any more", False),
        (a_node(), "", False),
        (a_node(stamp(now())), "", True),
        (a_node("yesterday"), "", False),
        pytest.param(
            a_node(LONG_AGO), f"virt-handler on node n1 has not been heard of since {LONG_AGO}", False, id="long-ago"
        ),  # with an id of its own: processes that share the tests' work must agree on their names
        (a_node(stamp(now()), ready="Unknown"), "node n1 is not ready: Kubelet stopped posting.", True),
        (a_node(stamp(now()), ready="True"), "", True),
        (a_node(stamp(now()), taint="node.kubernetes.io/out-of-service"), "", False),
        (a_node(stamp(now()), taint="lab"), "", True),
    ],
)
def test_what_is_known_of_a_node(node: Obj | None, said: str, holds: bool) -> None:
    found = trouble("n1", node, now())
    assert (found[1].partition(";")[0] if found else "") == said
    assert may_hold(node, now()) == holds


@pytest.fixture
async def watched(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(vmi_module, "AGENT_SECONDS", 0.05)
    async with Informer(world.client, NODES) as nodes:
        recorder = EventRecorder(world.client, "test")
        controller = NodeController(world.client, recorder, nodes=nodes, vmis=world.vmis)
        tasks = [asyncio.create_task(controller.run()), asyncio.create_task(recorder.run())]
        for vmi in world.vmis.items():
            controller.queue.add(vmi["status"]["nodeName"])
        yield world
        for task in tasks:
            await end_task(task)


async def heartbeat(world: World, at: str) -> None:
    annotations = {"annotations": {"kubevirt.io/heartbeat": at}, "labels": {"kubevirt.io/schedulable": "true"}}
    await world.client.patch(NODES, "n1", {"metadata": annotations})


async def test_a_silent_node_is_closed_and_its_machines_say_so_until_it_is_heard_again(watched: World) -> None:
    await watched.create_vmi()
    await watched.running()
    await heartbeat(watched, LONG_AGO)
    vmi = await watched.vmi("m", lambda v: (condition(v, "Ready") or {}).get("reason") == "NodeUnresponsive")
    assert vmi["status"]["phase"] == "Running"
    async with Informer(watched.client, NODES) as nodes:
        await nodes.wait_until(
            lambda i: (i.get(None, "n1") or {})["metadata"]["labels"]["kubevirt.io/schedulable"] == "false", 10
        )
    async with Informer(watched.client, EVENTS, "default") as events:
        await events.wait_until(lambda i: {e["involvedObject"]["kind"] for e in i.items()} >= {"Node", VMIS.kind}, 10)
    await heartbeat(watched, stamp(now()))
    await watched.vmi("m", lambda v: condition(v, "Ready") is None)


async def test_machines_of_a_node_that_is_not_ready_say_so_and_go_on(watched: World) -> None:
    await watched.create_vmi()
    await watched.running()
    ready = {"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting."}
    await watched.client.patch(NODES, "n1", {"status": {"conditions": [ready]}}, subresource="status")
    vmi = await watched.vmi("m", lambda v: (condition(v, "Ready") or {}).get("reason") == "NodeNotReady")
    assert "Kubelet stopped posting" in (condition(vmi, "Ready") or {})["message"]
    assert vmi["status"]["phase"] == "Running"
    await watched.client.patch(
        NODES, "n1", {"status": {"conditions": [{**ready, "status": "True"}]}}, subresource="status"
    )
    await watched.vmi("m", lambda v: condition(v, "Ready") is None)


async def test_a_pod_deleted_by_force_ends_a_machine_once_its_agent_says_so(watched: World) -> None:
    await watched.create_vmi()
    pod = await watched.running()
    await heartbeat(watched, stamp(now()))
    await watched.end_pod(pod)
    with pytest.raises(TimeoutError):
        await watched.vmis.wait_until(lambda i: (i.get("default", "m") or {})["status"]["phase"] != "Running", 0.5)
    await watched.client.delete(VMIS, "m", "default")
    with pytest.raises(TimeoutError):
        await watched.vmis.wait_until(lambda i: i.get("default", "m") is None, 0.5)
    await watched.vmi_status("m", phase="Failed")
    await watched.gone(watched.vmis, "m")


@pytest.mark.parametrize("way", ["deleted", "out of service", "silent"])
async def test_a_pod_gone_from_a_node_that_is_given_up_ends_the_machine(watched: World, way: str) -> None:
    await watched.create_vmi()
    pod = await watched.running()
    await heartbeat(watched, stamp(now()))
    await watched.end_pod(pod)
    if way == "deleted":
        await watched.client.delete(NODES, "n1")
    elif way == "silent":
        await heartbeat(watched, LONG_AGO)
    else:
        taint = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
        await watched.client.patch(NODES, "n1", {"spec": {"taints": [taint]}})
    vmi = await watched.vmi("m", lambda v: v["status"]["phase"] == "Failed")
    assert vmi["status"]["reason"] == "PodNotExists"


@pytest.mark.parametrize(
    ("strategy", "configured", "movable", "wanted"),
    [
        (None, "None", "False", False),
        (None, "LiveMigrate", "False", True),
        ("None", "LiveMigrate", "False", False),
        ("LiveMigrate", "None", "False", True),
        ("LiveMigrateIfPossible", "None", "False", False),
        ("LiveMigrateIfPossible", "None", "True", True),
        ("External", "None", "False", True),
    ],
)
def test_who_gets_a_budget(strategy: str | None, configured: str, movable: str, wanted: bool) -> None:
    vmi: Obj = {
        "metadata": {"name": "m", "namespace": "default", "uid": "u"},
        "spec": {"evictionStrategy": strategy} if strategy else {},
        "status": {"phase": "Running", "conditions": [{"type": "LiveMigratable", "status": movable}]},
    }
    assert wants_budget(vmi, configured) == wanted
    vmi["spec"]["hypervisor"] = {"endpoint": "rack4"}
    assert wants_budget(vmi, configured) == wanted
    assert wants_budget(vmi, "") == (wanted or not strategy), "on a host, silence does not mean that a drain may end it"
    assert not wants_budget(vmi | {"status": {"phase": "Succeeded"}}, configured)
    assert budget_of(vmi)["metadata"]["ownerReferences"][0]["uid"] == "u"
