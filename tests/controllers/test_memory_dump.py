"""A memory dump's way through a VirtualMachine's status: its phases, and the volume that comes and goes."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.api.dumps import CLAIM_ANNOTATION, DumpPhase
from polyvisor.api.resources import PVCS, VMS
from polyvisor.controllers import memory_dump
from polyvisor.controllers.objects import condition
from tests.controllers.conftest import NAMESPACE, World

Obj = dict[str, Any]
VOLUME: Obj = {"name": "dump", "memoryDump": {"claimName": "dump", "hotpluggable": True}}
INFO: Obj = {"claimName": "dump", "startTimestamp": "s", "endTimestamp": "e", "targetFileName": "f"}
DONE: Obj = {"name": "dump", "target": "", "phase": "MemoryDumpCompleted", "memoryDumpVolume": INFO}
BAD: Obj = {**DONE, "phase": "MemoryDumpFailed", "message": "no room"}


def machine(phase: str, *volumes: Obj) -> Obj:
    request = {"claimName": "dump", "phase": phase}
    return {
        "metadata": {"name": "m", "namespace": NAMESPACE},
        "spec": {"template": {"spec": {"volumes": list(volumes)}}},
        "status": {"memoryDumpRequest": request},
    }


def running(*volumes: Obj, told: Obj | None = None, phase: str = "Running") -> Obj:
    status = {"phase": phase, "volumeStatus": [told] if told else []}
    return {"metadata": {"name": "m"}, "spec": {"volumes": list(volumes)}, "status": status}


@pytest.mark.parametrize(
    ("before", "in_template", "vmi", "after"),
    [
        ("Associating", True, running(VOLUME), "InProgress"),
        ("Associating", False, running(VOLUME), "Associating"),
        ("Associating", True, running(), "Associating"),
        ("Associating", True, running(VOLUME, told=BAD), "Associating"),  # the one before has not left
        ("InProgress", True, running(VOLUME), "InProgress"),
        ("InProgress", True, running(VOLUME, told=DONE), "Unmounting"),
        ("InProgress", True, running(VOLUME, told=BAD), "Failed"),
        ("InProgress", True, running(VOLUME, phase="Failed"), "Failed"),
        ("InProgress", True, None, "Failed"),
        ("Unmounting", True, running(told=DONE), "Unmounting"),
        ("Unmounting", True, running(), "Completed"),
        ("Unmounting", True, None, "Completed"),
        ("Completed", True, running(), "Completed"),
        ("Failed", True, running(told=BAD), "Failed"),
        ("Dissociating", True, running(), "Dissociating"),
        ("Dissociating", False, running(told=DONE), "Dissociating"),
        ("Dissociating", False, running(VOLUME), "Dissociating"),
        ("Dissociating", False, running(), None),
        ("Dissociating", False, None, None),
    ],
)
def test_phases_follow_what_is_seen(before: str, in_template: bool, vmi: Obj | None, after: str | None) -> None:
    found = memory_dump.following(machine(before, *([VOLUME] if in_template else [])), vmi)
    assert (found or {}).get("phase") == after


def test_what_the_dump_came_to_is_kept() -> None:
    done = memory_dump.following(machine("InProgress", VOLUME), running(VOLUME, told=DONE))
    assert done == {
        "claimName": "dump",
        "phase": "Unmounting",
        "startTimestamp": "s",
        "endTimestamp": "e",
        "fileName": "f",
    }
    bad = memory_dump.following(machine("InProgress", VOLUME), running(VOLUME, told=BAD))
    assert bad is not None
    assert bad["message"] == "no room"


@pytest.mark.parametrize("phase", list(DumpPhase))
def test_an_instance_that_is_made_takes_part_in_no_dump_that_is_over(phase: DumpPhase) -> None:
    spec: Obj = {"volumes": [VOLUME]}
    memory_dump.of_new_instance(machine(phase, VOLUME), spec)
    assert (spec["volumes"] == [VOLUME]) == (phase in (DumpPhase.ASSOCIATING, DumpPhase.IN_PROGRESS))


async def test_from_the_request_to_the_last_trace(world: World) -> None:
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    metadata = {"name": "dump", "namespace": NAMESPACE}
    await world.client.create(
        PVCS, {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": claim}
    )
    await world.create_vm("m", runStrategy="Always")
    await world.running("m")

    async def ask(**request: Any) -> None:
        change = {"status": {"memoryDumpRequest": {"claimName": "dump", **request}}}
        await world.client.patch(VMS, "m", change, NAMESPACE, subresource="status")

    async def played(*told: Obj) -> None:
        await world.vmi_status("m", volumeStatus=list(told))

    def phase(vm: Obj) -> Any:
        return (vm["status"].get("memoryDumpRequest") or {}).get("phase")

    for _ in range(2):  # a second dump into the same claim needs no name of it
        await ask(phase="Associating")
        await world.vmi("m", lambda vmi: vmi["spec"].get("volumes") == [VOLUME])
        await world.vm("m", lambda vm: phase(vm) == "InProgress")
        await played(DONE)
        await world.vmi("m", lambda vmi: not vmi["spec"].get("volumes"))
        await played()
        vm = await world.vm("m", lambda vm: phase(vm) == "Completed")
        assert vm["spec"]["template"]["spec"]["volumes"] == [VOLUME]
        assert not condition(vm, "RestartRequired")
    marked = await world.client.get(PVCS, "dump", NAMESPACE)
    assert marked["metadata"]["annotations"][CLAIM_ANNOTATION] == "f"
    await ask(phase="Dissociating", remove=True)
    vm = await world.vm("m", lambda vm: "memoryDumpRequest" not in vm["status"])
    assert not vm["spec"]["template"]["spec"].get("volumes")
