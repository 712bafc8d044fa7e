"""A domain that Polyvisor rendered converts back into a machine that renders to the same domain, with every driver."""

from __future__ import annotations

from functools import cache

import pytest

from polyvisor.adoption import Conversion, Mapping, Outcome, PoolMapping, convert
from polyvisor.domain import render
from polyvisor.drivers import registry
from polyvisor.drivers.base import Driver
from polyvisor.testing import machines
from polyvisor.testing.machines import Case

POOLS = (
    PoolMapping("fast", "images", "/nowhere"),
    PoolMapping("luns", "luns", "/dev"),
    PoolMapping("stores", "stores", "/vmfs/volumes/nowhere"),
    PoolMapping("windows", "windows", "/C:/nowhere"),
)
IMAGE = "localhost/kernel:1"
IDENTITY = ("name", "uuid", "sysinfo/system/entry[4]", "devices/serial/source/@master", "devices/serial/source/@slave")
"""What follows from a machine's identity, which a conversion gives anew where the driver has no UUIDs."""
CHOSEN = {"disk.pci-address", "interface.pci-address", "cpu.pinning"}
"""Places and CPUs that a user gave: a domain does not tell them from those that were chosen."""


@cache
def corpus(driver: Driver) -> dict[str, Case]:
    return {case.id: case for case in machines.corpus(driver)}


@cache
def converted(driver: Driver, id_: str) -> Conversion:
    case = corpus(driver)[id_]
    mapping = Mapping(driver=driver.name, storage=POOLS, kernel_image=IMAGE)
    return convert(render(case.vmi, driver, case.context), mapping)


@pytest.mark.parametrize("driver", [pytest.param(driver, id=driver.name) for driver in registry()])
def test_machine_renders_to_the_domain_that_it_was_made_of(driver: Driver) -> None:
    lost = {}
    for id_, case in corpus(driver).items():
        found = converted(driver, id_)
        notes = [
            f"{note.path}={note.value}: {note.outcome}: {note.text}"
            for note in found.notes
            if note.outcome is not Outcome.KEPT and note.path not in IDENTITY and not note.path.endswith("size()")
        ]
        if notes and not case.features & CHOSEN:
            lost[id_] = notes
    assert lost == {}


@pytest.mark.parametrize("driver", [pytest.param(driver, id=driver.name) for driver in registry()])
def test_machine_has_the_disks_and_sizes_of_the_one_that_was_rendered(driver: Driver) -> None:
    for id_, case in corpus(driver).items():
        found = converted(driver, id_).machine["spec"]["template"]["spec"]
        wanted = case.vmi.spec
        dumps = {volume.name for volume in wanted.volumes or [] if volume.memory_dump is not None}
        shown = case.context.disks.keys() - dumps
        volumes = [volume["name"] for volume in found.get("volumes") or []]
        rendered = {*shown, *case.context.folders, *case.context.shares}
        assert set(volumes) - {"root"} == rendered - {case.context.root_volume}, id_
        disks = {disk["name"] for disk in found["domain"]["devices"].get("disks") or []}
        given = {disk.name for disk in wanted.domain.devices.disks or []}
        assert disks <= given | set(volumes), id_
