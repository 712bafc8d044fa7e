"""Who takes a machine over on its way to its node, and how little is written on that way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from polyvisor.api.resources import NODES, VMIS
from polyvisor.controllers.hand_over import AGENT_SECONDS, BIND_SECONDS, HandOver

from .conftest import NAMESPACE, World, compute

Obj = dict[str, Any]
AT = datetime(2026, 1, 1, tzinfo=UTC)
PLACED: Any = SimpleNamespace()
VMI: Obj = {"metadata": {"name": "m", "uid": "u"}, "status": {"phase": "Scheduling", "nodeName": "n1"}}


def stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def hand_over(node: Obj | None = None, clock: Clock | None = None) -> HandOver:
    nodes: Any = SimpleNamespace(get=lambda _, name: node if name == "n1" else None)
    return HandOver(nodes, clock or Clock())


def kubelets(heard: datetime | None = AT, *taints: str) -> Obj:
    notes = {"kubevirt.io/heartbeat": stamp(heard)} if heard else {}
    return {"metadata": {"name": "n1", "annotations": notes}, "spec": {"taints": [{"key": key} for key in taints]}}


def pod(node: str = "", started: datetime | None = None, **scheduled: str) -> Obj:
    state = [compute(running={"startedAt": stamp(started)})] if started else []
    conditions = [{"type": "PodScheduled", **scheduled}] if scheduled else []
    return {"spec": {"nodeName": node}, "status": {"containerStatuses": state, "conditions": conditions}}


def test_nothing_is_written_until_the_scheduler_has_spoken() -> None:
    clock = Clock()
    found = hand_over(clock=clock)
    assert found.scheduler_has(VMI, pod()) == 0.0, "a Pod of another time"
    assert found.made(VMI, PLACED) == BIND_SECONDS
    assert found.placement(VMI) is PLACED
    assert found.scheduler_has(VMI, pod()) == BIND_SECONDS
    assert found.scheduler_has(VMI, pod("n1")) == 0.0
    assert found.scheduler_has(VMI, pod(status="False", reason="Unschedulable")) == 0.0
    clock.now += BIND_SECONDS
    assert found.scheduler_has(VMI, pod()) == 0.0
    found.written(VMI)
    assert found.placement(VMI) is None


@pytest.mark.parametrize(
    ("node", "seconds"),
    [
        (kubelets(), AGENT_SECONDS),
        (kubelets(None), 0.0),
        (kubelets(AT - timedelta(hours=1)), 0.0),
        (kubelets(AT, "hypervisor.kubevirt.io/virtual-node"), 0.0),
        (None, 0.0),
    ],
    ids=["an agent", "none", "a silent one", "a virtual node's", "no node"],
)
def test_an_agent_that_lives_is_left_to_take_over(node: Obj | None, seconds: float) -> None:
    found = hand_over(node)
    assert found.agent_has(pod("n1", AT), AT) == seconds
    assert found.agent_has(pod("n1", AT), AT + timedelta(seconds=AGENT_SECONDS)) == 0.0
    assert found.agent_has(pod("n1"), AT) == 0.0
    assert found.may_still_run(VMI, AT) is bool(seconds), "it may have started the guest"


async def test_an_agents_machine_takes_two_writes(world: World) -> None:
    heartbeat = {"metadata": {"annotations": {"kubevirt.io/heartbeat": stamp(datetime.now(UTC))}}}
    await world.client.patch(NODES, "n1", heartbeat)
    made = await world.create_vmi("m", finalizers=["kubevirt.io/foregroundDeleteVirtualMachine"])
    seen: list[Obj] = []
    world.vmis.on_change(lambda old, new: seen.append(new or {}))
    unbound = await world.pod("m")
    await world.bind(unbound)
    vmi = await world.vmi("m", lambda v: v["status"].get("nodeName") == "n1")
    assert vmi["status"]["phase"] == "Scheduling"
    assert vmi["status"]["activePods"] == {unbound["metadata"]["uid"]: "n1"}
    assert vmi["metadata"]["labels"]["kubevirt.io/nodeName"] == "n1"
    started = compute(running={"startedAt": stamp(datetime.now(UTC) + timedelta(seconds=2))})
    await world.pod_status(unbound, phase="Running", containerStatuses=[started])
    await world.vmi_status("m", phase="Running", conditions=[{"type": "Ready", "status": "True"}])
    await world.pod("m", lambda p: len(p["status"].get("conditions") or []) > 0)
    versions = {one["metadata"]["resourceVersion"] for one in seen} - {made["metadata"]["resourceVersion"]}
    assert len(versions) == 2, [one["status"] for one in seen]


async def test_a_machine_is_handed_over_if_its_agent_does_not_take_it(world: World) -> None:
    heartbeat = {"metadata": {"annotations": {"kubevirt.io/heartbeat": stamp(datetime.now(UTC))}}}
    await world.client.patch(NODES, "n1", heartbeat)
    await world.create_vmi("m")
    found = await world.pod("m")
    await world.bind(found)
    long_ago = compute(running={"startedAt": stamp(datetime.now(UTC) - timedelta(minutes=1))})
    await world.pod_status(found, phase="Running", containerStatuses=[long_ago])
    vmi = await world.vmi("m", lambda v: v["status"]["phase"] == "Scheduled")
    assert (await world.client.get(VMIS, "m", NAMESPACE))["status"]["nodeName"] == vmi["status"]["nodeName"] == "n1"
