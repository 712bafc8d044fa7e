"""Discs of drives that follow a machine's template while its instance runs."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.api.resources import VMS
from polyvisor.controllers.live_media import step
from polyvisor.controllers.objects import condition
from tests.controllers.conftest import NAMESPACE, World, instance

Obj = dict[str, Any]
DRIVE: Obj = {"name": "drive", "cdrom": {"bus": "sata"}}
ROOT: Obj = {"name": "root", "emptyDisk": {"capacity": "1Mi"}}


def disc(claim: str, **more: Any) -> Obj:
    return {"name": "drive", "persistentVolumeClaim": {"claimName": claim, "hotpluggable": True, **more}}


def spec(*volumes: Obj, drive: bool = True) -> Obj:
    return {"domain": {"devices": {"disks": [DRIVE] if drive else []}}, "volumes": [ROOT, *volumes]}


FIXED = disc("a", hotpluggable=False)


@pytest.mark.parametrize(
    ("template", "running", "after"),
    [
        (spec(disc("a")), spec(), [ROOT, disc("a")]),
        (spec(), spec(disc("a")), [ROOT]),
        (spec(disc("b")), spec(disc("a")), [ROOT, disc("b")]),
        (spec(disc("a")), spec(disc("a")), None),
        (spec(), spec(), None),
        (spec(), spec(FIXED), None),  # it is no disc that may go
        (spec(FIXED), spec(), None),
        (spec(disc("a")), spec(drive=False), None),  # the drive itself comes with a restart
        ({}, spec(disc("a")), None),
    ],
)
def test_what_an_instance_becomes(template: Obj, running: Obj, after: list[Obj] | None) -> None:
    found = step({"spec": {"template": {"spec": template}}}, {"spec": running})
    assert (found["spec"]["volumes"] if found else None) == after


async def test_a_disc_follows_the_template_without_a_restart(world: World) -> None:
    body = instance("n")["spec"]
    body["domain"].setdefault("devices", {})["disks"] = [DRIVE]
    machine = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "n", "namespace": NAMESPACE},
    }
    await world.client.create(VMS, {**machine, "spec": {"runStrategy": "Always", "template": {"spec": body}}})
    await world.running("n")
    for volumes in ([disc("a")], []):
        changed = await world.change(VMS, "n", spec={"template": {"spec": {"volumes": volumes}}})
        await world.vmi("n", lambda vmi: (vmi["spec"].get("volumes") or []) == volumes)  # noqa: B023
        generation = changed["metadata"]["generation"]
        vm = await world.vm("n", lambda vm: vm["status"]["desiredGeneration"] == generation)  # noqa: B023
        assert not condition(vm, "RestartRequired")
