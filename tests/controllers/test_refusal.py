"""A machine whose instance the API server refuses: the reason is shown, and asking again takes ever longer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from polyvisor.api.problems import Problem
from polyvisor.api.resources import EVENTS, VMIS, VMS, Resource
from polyvisor.controllers import run_controllers
from polyvisor.controllers.objects import condition
from polyvisor.controllers.refusals import Refusals
from polyvisor.drivers import DriverRegistry
from polyvisor.kube import Informer
from tests.cluster import running
from tests.controllers.conftest import NAMESPACE, World

Obj = dict[str, Any]


class Gate:
    """Admission that lets no instance in whose spec names the wrong architecture."""

    def __init__(self) -> None:
        self.refused = 0

    def __call__(
        self, operation: str, resource: Resource, obj: Obj, old: Obj | None
    ) -> tuple[Obj, Sequence[Problem], Sequence[str]]:
        if resource is VMIS and operation == "CREATE" and obj["spec"].get("architecture") == "vax":
            self.refused += 1
            return obj, [Problem("spec.architecture", f"no driver has a vax (asked {self.refused} times)")], []
        return obj, [], []


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
async def world(tmp_path: Path, drivers: DriverRegistry, gate: Gate) -> AsyncIterator[World]:
    async with running(tmp_path, gate) as client, asyncio.TaskGroup() as group:
        ready = asyncio.Event()
        controllers = group.create_task(run_controllers(client, drivers, ready=ready))
        await ready.wait()
        async with Informer(client, VMS) as vms, Informer(client, VMIS) as vmis:
            yield World(client, vms, vmis, vmis)
        controllers.cancel()


async def refused(world: World) -> Obj:
    body = {"domain": {"devices": {}}, "architecture": "vax"}
    return await world.client.create(
        VMS,
        {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachine",
            "metadata": {"name": "m", "namespace": NAMESPACE},
            "spec": {"runStrategy": "Always", "template": {"spec": body}},
        },
    )


async def test_a_refused_instance_is_shown_and_not_asked_for_all_the_time(world: World, gate: Gate) -> None:
    await refused(world)
    vm = await world.vm("m", lambda v: condition(v, "Failure"))
    failure = condition(vm, "Failure") or {}
    assert failure["reason"] == "FailedCreate"
    assert "no driver has a vax" in failure["message"]
    for n in range(5):  # what else happens to the machine is no reason to ask again
        await world.client.patch(VMS, "m", {"metadata": {"annotations": {"n": str(n)}}}, NAMESPACE)
    await asyncio.sleep(1.0)
    assert gate.refused == 1
    event = await world.event("FailedCreate")
    assert event["type"] == "Warning"
    assert len([e for e in await world.client.list(EVENTS) if e["reason"] == "FailedCreate"]) == 1


async def test_a_machine_that_is_corrected_is_started_at_once(world: World, gate: Gate) -> None:
    await refused(world)
    await world.vm("m", lambda v: condition(v, "Failure"))
    await world.change(VMS, "m", spec={"template": {"spec": {"architecture": "amd64"}}})
    await world.vmi("m", lambda v: v["spec"]["architecture"] == "amd64")
    await world.vm("m", lambda v: not condition(v, "Failure"))


def test_each_refusal_of_the_same_machine_makes_the_next_wait_longer() -> None:
    at = 0.0
    refusals = Refusals(clock=lambda: at)
    waits = []
    for _ in range(12):
        refusals.note(("ns", "m"), 1, "no")
        found = refusals.standing(("ns", "m"), 1)
        assert found is not None
        waits.append(found[0])
        at += found[0]
        assert refusals.standing(("ns", "m"), 1) is None
    assert waits == sorted(waits)
    assert waits[0] >= 2
    assert waits[-1] == 300
    refusals.note(("ns", "m"), 1, "no")
    assert refusals.standing(("ns", "m"), 2) is None
    refusals.forget(("ns", "m"))
    assert refusals.standing(("ns", "m"), 1) is None
