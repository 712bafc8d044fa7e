"""Machines whose launcher Pods end or are taken away by others."""

from __future__ import annotations

import pytest

from polyvisor.api.resources import PODS
from polyvisor.controllers.objects import condition
from tests.controllers.conftest import NAMESPACE, World, compute


async def test_a_pod_that_fails_before_the_hand_over_fails_the_machine(world: World) -> None:
    await world.create_vmi("m")
    pod = await world.pod("m")
    ended = {"exitCode": 3, "reason": "Error", "message": "no such image"}
    await world.pod_status(pod, phase="Failed", containerStatuses=[compute(terminated=ended)])
    vmi = await world.vmi("m", lambda v: v["status"]["phase"] == "Failed")
    assert "no such image (exit code 3)" in (condition(vmi, "Synchronized") or {})["message"]


async def test_a_pod_that_disappears_fails_the_machine_and_none_is_made_again(world: World) -> None:
    await world.create_vmi("m")
    pod = await world.running("m")
    await world.end_pod(pod)
    vmi = await world.vmi("m", lambda v: v["status"]["phase"] == "Failed")
    assert (condition(vmi, "Ready") or {})["reason"] == "PodNotExists"
    assert await world.client.list(PODS, NAMESPACE) == []


@pytest.mark.parametrize("how", ["unbound", "bound"])
async def test_a_pod_that_is_deleted_before_its_guest_runs_fails_the_machine(world: World, how: str) -> None:
    await world.create_vmi("m")
    await world.vmi("m", lambda v: v["status"]["phase"] == "Scheduling")
    pod = await world.pod("m")
    if how == "bound":  # its deletion takes as long as the node wants
        await world.bind(pod)
    await world.client.delete(PODS, pod["metadata"]["name"], NAMESPACE)
    vmi = await world.vmi("m", lambda v: v["status"]["phase"] == "Failed")
    ready = condition(vmi, "Ready") or {}
    assert (ready["status"], ready["reason"]) in [("False", "PodTerminating"), ("False", "PodNotExists")]
    assert (await world.event("Stopped"))["type"] == "Warning"


async def test_a_launcher_that_ends_before_its_guest_runs_fails_the_machine(world: World) -> None:
    await world.create_vmi("m")
    pod = await world.pod("m")
    ended = {"exitCode": 3, "reason": "Error", "message": "no memory"}
    beside = compute(running={}) | {"name": "guest-console-log"}
    await world.pod_status(pod, phase="Running", containerStatuses=[compute(terminated=ended), beside])
    vmi = await world.vmi("m", lambda v: v["status"]["phase"] == "Failed")
    assert "no memory (exit code 3)" in (condition(vmi, "Synchronized") or {})["message"]


async def test_a_machine_whose_pod_is_taken_away_is_not_ready_while_it_shuts_down(world: World) -> None:
    await world.create_vmi("m", {"terminationGracePeriodSeconds": 200})
    pod = await world.running("m")
    await world.client.delete(PODS, pod["metadata"]["name"], NAMESPACE)
    vmi = await world.vmi("m", lambda v: (condition(v, "Ready") or {}).get("reason") == "PodTerminating")
    assert vmi["status"]["phase"] == "Running"
    assert (condition(vmi, "Ready") or {})["status"] == "False"
    assert not vmi["metadata"].get("deletionTimestamp")
