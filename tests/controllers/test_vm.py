from __future__ import annotations

import asyncio
from typing import Any

import pytest

from polyvisor.api.resources import VMIS, VMS
from polyvisor.controllers.objects import condition
from tests.controllers.conftest import NAMESPACE, World, instance


async def stopped(world: World, name: str = "m") -> None:
    """Play the node until the instance is gone."""
    pod = await world.pod(name, lambda p: p["metadata"].get("deletionTimestamp"))
    await world.end_pod(pod)


async def test_always_starts_reports_and_starts_again(world: World) -> None:
    await world.create_vm("m", runStrategy="Always")
    await world.running("m")
    vm = await world.vm("m", lambda v: v["status"]["printableStatus"] == "Running")
    assert vm["status"]["created"] is True
    assert vm["status"]["ready"] is True
    assert vm["status"]["runStrategy"] == "Always"
    assert vm["status"]["observedGeneration"] == vm["metadata"]["generation"]
    assert "kubevirt.io/virtualMachineControllerFinalize" in vm["metadata"]["finalizers"]
    first = world.vmis.get(NAMESPACE, "m")
    assert first is not None
    assert first["metadata"]["labels"]["app"] == "m"
    assert first["metadata"]["ownerReferences"][0]["uid"] == vm["metadata"]["uid"]
    firmware = first["spec"]["domain"]["firmware"]["uuid"]
    await world.vmi_status("m", phase="Succeeded")
    await stopped(world)
    second = await world.vmi("m", lambda v: v["metadata"]["uid"] != first["metadata"]["uid"])
    assert second["spec"]["domain"]["firmware"]["uuid"] == firmware
    assert (await world.event("SuccessfulCreate"))["type"] == "Normal"


async def test_halting_stops_the_instance(world: World) -> None:
    await world.create_vm("m", running=True)
    await world.running("m")
    await world.change(VMS, "m", spec={"running": False})
    await world.vm("m", lambda v: v["status"]["printableStatus"] == "Stopping")
    await stopped(world)
    vm = await world.vm("m", lambda v: v["status"]["printableStatus"] == "Stopped")
    assert "created" not in vm["status"]
    assert (condition(vm, "Ready") or {})["reason"] == "VMINotExists"
    await world.gone(world.vmis, "m")


async def test_a_changed_template_asks_for_a_restart_until_it_runs(world: World) -> None:
    made = await world.create_vm("m", runStrategy="Always")
    await world.running("m")
    await world.vm("m", lambda v: v["status"]["printableStatus"] == "Running")
    await world.change(VMS, "m", spec={"template": {"metadata": {"labels": {"more": "yes"}}}})
    vm = await world.vm("m", lambda v: v["status"]["desiredGeneration"] == made["metadata"]["generation"] + 1)
    assert vm["status"]["observedGeneration"] == made["metadata"]["generation"]
    assert not condition(vm, "RestartRequired")
    await world.change(VMS, "m", spec={"template": {"metadata": {"labels": {"more": None}}}})
    await world.vm("m", lambda v: v["status"]["observedGeneration"] == made["metadata"]["generation"] + 2)
    await world.change(VMS, "m", spec={"template": {"spec": {"domain": {"memory": {"guest": "128Mi"}}}}})
    vm = await world.vm("m", lambda v: condition(v, "RestartRequired"))
    found = condition(vm, "RestartRequired") or {}
    assert found["status"] == "True"
    assert "template" in found["message"]
    assert vm["status"]["desiredGeneration"] == vm["metadata"]["generation"]
    assert vm["status"]["observedGeneration"] < vm["metadata"]["generation"]
    await world.change(VMS, "m", spec={"template": {"spec": {"domain": {"memory": {"guest": "64Mi"}}}}})
    await world.vm("m", lambda v: not condition(v, "RestartRequired"))
    await world.change(VMS, "m", spec={"template": {"spec": {"domain": {"memory": {"guest": "128Mi"}}}}})
    await world.vm("m", lambda v: condition(v, "RestartRequired"))
    first = world.vmis.get(NAMESPACE, "m") or {}
    await world.request("m", {"action": "Stop", "uid": first["metadata"]["uid"]}, {"action": "Start"})
    await stopped(world)
    await world.vmi("m", lambda v: v["spec"]["domain"]["memory"]["guest"] == "128Mi")
    vm = await world.vm("m", lambda v: v["status"].get("created") and not condition(v, "RestartRequired"))
    assert vm["status"]["observedGeneration"] == vm["metadata"]["generation"]


async def test_manual_starts_and_restarts_on_request(world: World) -> None:
    await world.create_vm("m", runStrategy="Manual")
    await world.vm("m", lambda v: v["status"]["printableStatus"] == "Stopped")
    assert world.vmis.get(NAMESPACE, "m") is None
    await world.request("m", {"action": "Start"})
    await world.running("m")
    vm = await world.vm("m", lambda v: v["status"]["printableStatus"] == "Running")
    assert "stateChangeRequests" not in vm["status"]
    first = world.vmis.get(NAMESPACE, "m")
    assert first is not None
    await world.request("m", {"action": "Stop", "uid": first["metadata"]["uid"]}, {"action": "Start"})
    await stopped(world)
    await world.vmi("m", lambda v: v["metadata"]["uid"] != first["metadata"]["uid"])
    await world.vm("m", lambda v: "stateChangeRequests" not in v["status"])


async def test_rerun_on_failure_comes_back_after_a_failure_and_not_after_success(world: World) -> None:
    await world.create_vm("m", runStrategy="RerunOnFailure")
    await world.running("m")
    first = await world.vmi("m", lambda v: v["status"]["phase"] == "Running")
    await world.vmi_status("m", phase="Failed")
    await stopped(world)
    await world.vmi("m", lambda v: v["metadata"]["uid"] != first["metadata"]["uid"])
    await world.running("m")
    await world.vmi_status("m", phase="Succeeded")
    await stopped(world)
    await world.gone(world.vmis, "m")
    await world.vm("m", lambda v: v["status"]["printableStatus"] == "Stopped")


async def test_once_is_not_started_again(world: World) -> None:
    await world.create_vm("m", runStrategy="Once")
    await world.running("m")
    await world.vmi_status("m", phase="Succeeded")
    await world.vm("m", lambda v: v["status"]["printableStatus"] == "Stopped")
    assert world.vmis.get(NAMESPACE, "m") is not None


async def test_an_instance_that_fails_before_it_runs_is_a_crash_loop(world: World) -> None:
    await world.create_vm("m", runStrategy="Always")
    pod = await world.pod("m")
    await world.pod_status(pod, phase="Failed")
    vm = await world.vm("m", lambda v: v["status"]["printableStatus"] == "CrashLoopBackOff")
    assert vm["status"]["startFailure"]["consecutiveFailCount"] == 1
    await world.gone(world.vmis, "m")
    vm = await world.vm("m", lambda v: "created" not in v["status"])
    assert vm["status"]["printableStatus"] == "CrashLoopBackOff"


async def test_deleting_a_machine_takes_its_instance_along(world: World) -> None:
    await world.create_vm("m", runStrategy="Always")
    await world.running("m")
    await world.client.delete(VMS, "m", NAMESPACE)
    await world.vm("m", lambda v: v["status"]["printableStatus"] == "Terminating")
    await stopped(world)
    await world.gone(world.vms, "m")
    await world.gone(world.vmis, "m")


async def test_deleting_with_orphan_leaves_the_instance_and_a_new_machine_adopts_it(world: World) -> None:
    await world.create_vm("m", runStrategy="Always")
    await world.running("m")
    first = await world.vmi("m", lambda v: v["status"]["phase"] == "Running")
    await world.client.delete(VMS, "m", NAMESPACE, propagation_policy="Orphan")
    await world.gone(world.vms, "m")
    left = await world.vmi("m", lambda v: not v["metadata"].get("ownerReferences"))
    assert left["metadata"]["uid"] == first["metadata"]["uid"]
    made = await world.create_vm("m", runStrategy="Always")
    taken = await world.vmi("m", lambda v: v["metadata"].get("ownerReferences"))
    assert taken["metadata"]["uid"] == first["metadata"]["uid"]
    assert taken["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]


async def test_an_instance_of_somebody_else_is_left_alone(world: World) -> None:
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "x", "controller": True}
    holder = await world.client.create(
        VMS,
        {
            **instance("o"),
            "kind": "VirtualMachine",
            "spec": {"runStrategy": "Halted", "template": {"spec": {"domain": {"devices": {}}}}},
        },
    )
    owner |= {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "o", "uid": holder["metadata"]["uid"]}
    await world.create_vmi("m", ownerReferences=[owner])
    await world.create_vm("m", runStrategy="Always")
    vm = await world.vm("m", lambda v: condition(v, "Failure"))
    assert "belongs to another object" in (condition(vm, "Failure") or {})["message"]


async def test_a_machine_settles_and_is_written_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.create_vm("m", runStrategy="Always")
    await world.running("m")
    before = await world.vm("m", lambda v: v["status"]["printableStatus"] == "Running" and v["status"].get("ready"))
    calls: list[tuple[str, str]] = []
    request = world.client.request

    async def noted(method: str, path: str, **options: Any) -> Any:
        calls.append((method, path))
        return await request(method, path, **options)

    monkeypatch.setattr(world.client, "request", noted)
    for n in range(5):
        await world.client.patch(VMIS, "m", {"metadata": {"annotations": {"n": str(n)}}}, NAMESPACE)
    await world.vmi("m", lambda v: v["metadata"]["annotations"]["n"] == "4")
    await world.create_vm("other", runStrategy="Halted")
    await world.vm("other", lambda v: v["status"]["printableStatus"] == "Stopped")
    after = await world.client.get(VMS, "m", NAMESPACE)
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert [c for c in calls if "/virtualmachines/m" in c[1] and c[0] != "GET"] == []


async def test_no_machine_ever_gets_a_second_instance(world: World) -> None:
    seen: dict[str, set[str]] = {}
    world.vmis.on_change(
        lambda old, new: seen.setdefault(new["metadata"]["name"], set()).add(new["metadata"]["uid"]) if new else None
    )
    await asyncio.gather(*(world.create_vm(f"m{n}", runStrategy="Always") for n in range(10)))
    for n in range(10):
        await world.running(f"m{n}")
        await world.vm(f"m{n}", lambda v: v["status"]["printableStatus"] == "Running")
    assert {name: len(uids) for name, uids in seen.items()} == {f"m{n}": 1 for n in range(10)}


async def test_the_cause_of_a_crash_loop_is_told_of_the_machine(world: World) -> None:
    await world.create_vm("m", runStrategy="Always")
    pod = await world.pod("m")
    await world.pod_status(pod, phase="Failed", reason="Evicted", message="the kernel is not there")
    await world.gone(world.vmis, "m")
    vm = await world.vm("m", lambda v: v["status"]["printableStatus"] == "CrashLoopBackOff")
    found = condition(vm, "Failure") or {}
    assert (found["status"], found["reason"]) == ("True", "Evicted")
    assert found["message"] == "the last instance failed: the kernel is not there"
    event = await world.event("Evicted")
    assert (event["type"], event["involvedObject"]["kind"]) == ("Warning", "VirtualMachine")
