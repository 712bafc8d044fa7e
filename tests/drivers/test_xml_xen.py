"""What libvirt's Xen driver is given, beyond what every driver's XML is tested for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from polyvisor.domain import DiskSource, DomainContext
from polyvisor.drivers.verdict import unsupported
from polyvisor.drivers.xen import XenDriver
from polyvisor.drivers.xen.probe import guest_kinds
from tests.drivers.kit import machine
from tests.drivers.schema import rendered

DRIVER = XenDriver()
KERNEL = {"kernelBoot": {"container": {"image": "k", "kernelPath": "/k"}, "kernelArgs": "console=hvc0 root=/dev/xvda"}}
NAMES = ("a", "b", "c", "d", "e", "f")


def context(virt_type: str) -> DomainContext:
    disks = {name: DiskSource(Path(f"/d/{name}.img"), "qcow2") for name in NAMES}
    kernel = None if virt_type == "xen" else Path("/d/vmlinuz")
    return DomainContext(virt_type, disks=disks, kernel=kernel)


def names(kinds: list[dict[str, Any]], virt_type: str = "xen") -> list[str]:
    disks = [{"name": name, **kind} for name, kind in zip(NAMES, kinds, strict=False)]
    domain = {"devices": {"disks": disks}, **({} if virt_type == "xen" else {"firmware": KERNEL})}
    xml = rendered(DRIVER, context(virt_type), domain)
    return [str(target.get("dev")) for target in xml.iterfind("devices/disk/target")]


DISK: dict[str, Any] = {"disk": {}}
CDROM: dict[str, Any] = {"cdrom": {}}
READONLY: dict[str, Any] = {"disk": {"readonly": True}}
SCSI: dict[str, Any] = {"disk": {"bus": "scsi"}}


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([DISK], ["xvda"]),
        ([DISK, DISK, DISK, DISK, DISK], ["xvda", "xvdb", "xvdc", "xvdd", "xvde"]),
        ([CDROM, DISK], ["hdd", "xvda"]),
        ([DISK, CDROM, CDROM, DISK, DISK], ["xvda", "hdd", "hdc", "xvdb", "xvde"]),
        ([READONLY, DISK, READONLY], ["xvde", "xvda", "xvdf"]),
        ([SCSI, DISK, SCSI, CDROM], ["sda", "xvda", "sdb", "hdd"]),
    ],
)
def test_disks_of_a_whole_machine_have_names_that_make_them_what_they_are(
    kinds: list[dict[str, Any]], expected: list[str]
) -> None:
    assert names(kinds) == expected


@pytest.mark.parametrize("virt_type", ["xenpvh", "xenpv"])
def test_disks_of_other_guests_are_named_in_their_order(virt_type: str) -> None:
    assert names([READONLY, DISK, DISK], virt_type) == ["xvda", "xvdb", "xvdc"]


def test_there_is_room_for_four_cdroms() -> None:
    assert names([CDROM] * 4) == ["hdd", "hdc", "hdb", "hda"]
    disks = [{"name": name, **CDROM} for name in NAMES[:5]]
    spec = machine(DRIVER, {"devices": {"disks": disks}}).spec
    assert [feature.id for feature, _, _ in unsupported(DRIVER, spec, "xen")] == ["limit.cdroms"]


@pytest.mark.parametrize(
    ("virt_type", "kind", "name"),
    [("xen", "hvm", "xenfv"), ("xenpvh", "xenpvh", "xenpvh"), ("xenpv", "linux", "xenpv")],
)
def test_a_virt_type_is_a_kind_of_guest(virt_type: str, kind: str, name: str) -> None:
    domain = {"cpu": {"cores": 2}, "clock": {"utc": {"offsetSeconds": 60}}, "devices": {"disks": [{"name": "a"}]}}
    xml = rendered(DRIVER, context(virt_type), {**domain, "firmware": {} if virt_type == "xen" else KERNEL})
    guest = xml.find("os/type")
    assert guest is not None
    assert (xml.get("type"), guest.text, guest.get("machine")) == ("xen", kind, name)
    assert (xml.find("features") is not None) == (virt_type == "xen")
    assert {device.tag for device in xml.iterfind("devices/*")} == {"disk", "console"}
    assert xml.find("cpu") is None


def test_formats_are_told_with_a_drivers_name_for_else_all_would_be_raw() -> None:
    xml = rendered(DRIVER, context("xen"), {"devices": {"disks": [{"name": "a"}]}})
    (driver,) = xml.iterfind("devices/disk/driver")
    assert dict(driver.attrib) == {"name": "qemu", "type": "qcow2"}


def test_uefi_says_no_word_about_secure_boot() -> None:
    efi = {"bootloader": {"efi": {"secureBoot": False}}}
    xml = rendered(DRIVER, context("xen"), {"firmware": efi, "devices": {}})
    system = xml.find("os")
    assert system is not None
    assert system.get("firmware") == "efi"
    assert [child.tag for child in system] == ["type"]


def test_a_cpu_like_the_hosts_takes_no_words_for_they_can_crash_libvirt() -> None:
    xml = rendered(DRIVER, context("xen"), {"cpu": {"model": "host-passthrough"}, "devices": {}})
    assert xml.find("cpu") is None


def test_a_whole_machine_with_all_it_can_have() -> None:
    domain = {
        "cpu": {"cores": 2, "model": "host-passthrough", "features": [{"name": "avx", "policy": "disable"}]},
        "features": {"acpi": {}, "apic": {}, "hyperv": {"vapic": {}, "synic": {}, "vpindex": {}}},
        "devices": {
            "disks": [{"name": "a"}, {"name": "b", "cdrom": {}}],
            "inputs": [{"name": "t", "type": "tablet", "bus": "usb"}],
            "sound": {"name": "s", "model": "ac97"},
            "autoattachMemBalloon": True,
        },
    }
    xml = rendered(DRIVER, context("xen"), domain)
    assert [device.tag for device in xml.iterfind("devices/*")] == ["disk", "disk", "console", "input", "sound"]
    assert [boot.get("dev") for boot in xml.iterfind("os/boot")] == ["hd", "cdrom"]
    assert [tag.tag for tag in xml.iterfind("cpu/*")] == ["feature"]


@pytest.mark.parametrize("virt_type", ["xenpvh", "xenpv"])
@pytest.mark.parametrize(
    ("domain", "feature"),
    [
        ({}, "boot.without-kernel"),
        ({"firmware": {**KERNEL, "bootloader": {"bios": {}}}}, "firmware.bios"),
        ({"firmware": KERNEL, "devices": {"inputs": [{"name": "t", "type": "tablet", "bus": "usb"}]}}, "input.tablet"),
        ({"firmware": KERNEL, "devices": {"disks": [{"name": "a", "cdrom": {}}]}}, "disk.cdrom"),
    ],
)
def test_what_needs_a_whole_machine_is_refused_elsewhere(virt_type: str, domain: dict[str, Any], feature: str) -> None:
    spec = machine(DRIVER, domain).spec
    assert [lack.id for lack, _, _ in unsupported(DRIVER, spec, virt_type)] == [feature]
    assert unsupported(DRIVER, spec, "xen") == []


def test_a_hosts_kinds_of_guests_are_those_that_its_libvirt_lists() -> None:
    guests = [("xen", "x86_64"), ("xenpvh", "x86_64"), ("hvm", "i686")]
    text = "".join(f"<guest><os_type>{kind}</os_type><arch name='{arch}'/></guest>" for kind, arch in guests)
    assert guest_kinds(etree.fromstring(f"<capabilities>{text}</capabilities>")) == ("xenpvh", "xenpv")


def test_a_node_that_is_no_xen_host_says_so(tmp_path: Path) -> None:
    found = DRIVER.probe(tmp_path)
    assert not found.available
    assert "no Xen host" in found.reason
