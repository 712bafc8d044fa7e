"""Domains as management tools write them, each with what a VirtualMachine does not have of it.

The settings are those that the tools are known for; the XML in ``corpus`` is written for these tests. What a machine
keeps is not listed: it is everything else, so that a setting that is lost, or kept at last, changes a list here.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from lxml import etree

from polyvisor.adoption import Conversion, Mapping, NetworkMapping, Outcome, PoolMapping, convert

FILES = Path(__file__).parent / "corpus"
STORAGE = (
    PoolMapping("fast", "images", "/var/lib/libvirt/images"),
    PoolMapping("nova", "nova", "/var/lib/nova/instances"),
    PoolMapping("luns", "luns", "/dev/vg0"),
    PoolMapping("xen", "xen", "/var/lib/xen/images"),
    PoolMapping("stores", "stores", "/vmfs/volumes/images"),
)
NETWORKS = (
    NetworkMapping("pod", "default"),
    NetworkMapping("lab/second", "default"),
    NetworkMapping("lab/lan", "br0"),
    NetworkMapping("lab/tenant", "br-int"),
)


class Without(NamedTuple):
    """Settings by path: those that the machine is without, those that it has otherwise; fields that are refused."""

    beside: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    driver: str = ""


CORPUS = {
    "a-linux-server-of-virt-manager": Without(
        beside=(
            "metadata/libosinfo:libosinfo/libosinfo:os/@id",
            "os/boot/@dev",
            "pm/suspend-to-mem/@enabled",
            "pm/suspend-to-disk/@enabled",
            "devices/video/model/@primary",
            "devices/redirdev/@bus",
            "devices/redirdev/@type",
        ),
        changed=("devices/graphics/@type", "devices/graphics/@autoport"),
    ),
    "windows-11-of-virt-manager": Without(
        beside=("os/firmware/feature[1]/@enabled", "os/firmware/feature[1]/@name", "features/vmport/@state"),
        changed=(
            "os/loader/@readonly",
            "os/loader/@secure",
            "os/loader/@type",
            "os/loader",
            "os/nvram/@template",
            "os/nvram",
            "clock/@offset",
            "devices/tpm/backend/@type",
            "devices/graphics/@type",
            "devices/graphics/@port",
        ),
    ),
    "an-instance-of-openstack": Without(
        beside=(
            "metadata/nova:instance/nova:name",
            "cputune/shares",
            "sysinfo/system/entry[4]/@name",
            "sysinfo/system/entry[4]",
            "os/boot/@dev",
            "devices/interface/virtualport/@type",
            "devices/interface/virtualport/parameters/@interfaceid",
        ),
        changed=("sysinfo/system/entry[1]", "sysinfo/system/entry[2]", "devices/interface/mtu/@size"),
    ),
    "a-big-one-with-pinned-cpus-and-a-device-of-the-host": Without(
        beside=(
            "cputune/vcpupin[1]/@vcpu",
            "cputune/vcpupin[1]/@cpuset",
            "cputune/vcpupin[2]/@vcpu",
            "cputune/vcpupin[2]/@cpuset",
            "cputune/emulatorpin/@cpuset",
            "devices/hostdev/@mode",
            "devices/hostdev/@type",
            "devices/hostdev/@managed",
            "devices/hostdev/source/address/@domain",
            "devices/hostdev/source/address/@bus",
            "devices/hostdev/source/address/@slot",
            "devices/hostdev/source/address/@function",
        )
    ),
    "two-interfaces-on-one-network-an-old-board-and-ide": Without(
        beside=(
            "devices/disk[2]/@type",
            "devices/disk[2]/@device",
            "devices/disk[2]/source/@file",
            "devices/disk[2]/target/@dev",
            "devices/disk[2]/target/@bus",
        ),
        changed=("devices/disk[1]/target/@bus",),
    ),
    "disks-on-a-network": Without(
        beside=(
            "devices/disk/@type",
            "devices/disk/@device",
            "devices/disk/driver/@name",
            "devices/disk/driver/@type",
            "devices/disk/source/@protocol",
            "devices/disk/source/@name",
            "devices/disk/source/host/@name",
            "devices/disk/source/host/@port",
            "devices/disk/target/@dev",
            "devices/disk/target/@bus",
        ),
        refused=("devices/disk",),
    ),
    "a-paravirtual-machine-of-xen": Without(
        beside=("bootloader",),
        changed=("devices/graphics/@type", "devices/graphics/@port", "devices/graphics/@listen"),
        refused=("spec.template.spec.domain",),
    ),
    "a-lun-on-a-host-of-vmware": Without(
        refused=("spec.template.spec.domain.devices.disks[1].lun",),
        driver="esx",
    ),
}


def converted(name: str) -> Conversion:
    mapping = Mapping(driver=CORPUS[name].driver, storage=STORAGE, networks=NETWORKS)
    return convert((FILES / f"{name}.xml").read_bytes(), mapping)


def of(found: Conversion, outcome: Outcome) -> tuple[str, ...]:
    return tuple(note.path for note in found.notes if note.outcome is outcome and not note.path.endswith("size()"))


def test_each_file_is_tried() -> None:
    assert {path.stem for path in FILES.glob("*.xml")} == set(CORPUS)


@pytest.mark.parametrize("name", CORPUS)
def test_what_a_machine_does_not_have_of_a_domain(name: str) -> None:
    found, wanted = converted(name), CORPUS[name]
    assert of(found, Outcome.BESIDE) == wanted.beside
    assert of(found, Outcome.CHANGED) == wanted.changed
    assert tuple(cause.partition(":")[0] for cause in found.causes) == wanted.refused


@pytest.mark.parametrize("name", CORPUS)
def test_each_setting_of_a_domain_is_told_of(name: str) -> None:
    told = {note.path for note in converted(name).notes}
    domain = etree.parse(FILES / f"{name}.xml").getroot()
    tree = domain.getroottree()
    wanted = set()
    for element in domain.iter():
        path = tree.getpath(element).removeprefix("/domain").removeprefix("/")
        wanted |= {f"{path}/@{attribute}" if path else f"@{attribute}" for attribute in element.attrib}
        if (element.text or "").strip() or not (len(element) or element.attrib):
            wanted.add(path)
    assert wanted - told == set()


def test_a_second_interface_on_a_network_joins_another_that_it_stands_for() -> None:
    spec = converted("two-interfaces-on-one-network-an-old-board-and-ide").machine["spec"]["template"]["spec"]
    assert spec["networks"] == [
        {"name": "default", "pod": {}},
        {"name": "second", "multus": {"networkName": "lab/second"}},
    ]
