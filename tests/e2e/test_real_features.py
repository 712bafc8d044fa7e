"""What the table claims of QEMU, seen from inside real guests, which all start together and print what they find."""

from __future__ import annotations

import json
import re

import pytest
from lxml import etree

from tests.drivers.feature_guest import Facts
from tests.drivers.feature_machines import CROWDS, GUESTS, Guest
from tests.drivers.feature_run import run
from tests.drivers.feature_seen import SEEN

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def reports() -> dict[str, Facts]:
    return run(GUESTS)


@pytest.mark.parametrize("feature", SEEN)
def test_the_guest_has_what_the_table_claims(feature: str, reports: dict[str, Facts]) -> None:
    name, check = SEEN[feature]
    assert check(reports[name]), json.dumps(reports[name], indent=1)


@pytest.fixture(scope="module")
def crowds() -> dict[str, Facts]:
    return run(CROWDS)


@pytest.mark.parametrize("kind", CROWDS)
def test_a_guest_sees_each_of_many_disks(kind: str, crowds: dict[str, Facts]) -> None:
    agree(crowds[kind], CROWDS[kind])


@pytest.mark.parametrize("name", [name for name, guest in GUESTS.items() if guest.disks and guest.args is not None])
def test_each_disk_of_the_manifest_is_where_the_domain_has_it(name: str, reports: dict[str, Facts]) -> None:
    agree(reports[name], GUESTS[name])


def agree(facts: Facts, guest: Guest) -> None:
    """The manifest, libvirt's domain and the guest agree: every disk, on its bus, at its address."""
    domain = etree.fromstring(facts["xml"])
    buses = {disk["name"]: _bus(disk) for disk in guest.domain["devices"]["disks"]}
    there = {str(disk.find("alias").get("name")): disk for disk in domain.iterfind("devices/disk")}  # type: ignore[union-attr]
    starts = {value: key.split(".")[1] for key, value in facts.items() if key.endswith(".start")}
    assert sorted(there) == sorted(f"ua-{disk}" for disk in buses)
    for disk, bus in buses.items():
        target, address = there[f"ua-{disk}"].find("target"), there[f"ua-{disk}"].find("address")
        assert target is not None
        assert address is not None
        assert target.get("bus") == bus
        if any(volume["name"] == disk for volume in guest.volumes):
            continue  # what it begins with is the volume's, so the guest cannot tell it by that
        path = facts[f"disk.{starts[f'disk-{disk}']}.path"]
        assert re.search(PATHS[bus], path), (disk, path)
        if bus == "scsi":
            assert path.split("/")[-3].split(":")[1:] == ["0", "0", address.get("unit")]
        elif bus == "virtio" and address.get("bus") == "0x00":
            assert f"/0000:00:{int(str(address.get('slot')), 16):02x}.0/" in path
    controllers = {(c.get("type"), c.get("model")) for c in domain.iterfind("devices/controller")}
    model = "virtio-transitional" if guest.domain["devices"].get("useVirtioTransitional") else "virtio-scsi"
    assert {one for kind, one in controllers if kind == "scsi"} == {model}


PATHS = {
    "virtio": r"/virtio\d+/block/vd",
    "scsi": r"/virtio\d+/host\d+/",
    "sata": r"/ata\d+/",
    "usb": r"/usb\d+/",
}


def _bus(disk: dict[str, dict[str, str]]) -> str:
    return str((disk.get("disk") or disk.get("cdrom") or {})["bus"])
