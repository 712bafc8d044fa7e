"""What is rendered is valid by libvirt's own schema, for every driver and every field, and hostile text stays text."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from polyvisor.api import VirtualMachineInstanceStatus
from polyvisor.domain import CardSource, DiskSource, DomainContext, render
from polyvisor.domain.disks import letters
from polyvisor.drivers import registry
from polyvisor.drivers.base import CardKind, Driver
from tests.drivers.kit import EVIL, context, machine

SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")
CORPUS: dict[str, dict[str, Any]] = {
    "plain": {},
    "cpu": {"cpu": {"sockets": 2, "cores": 2, "threads": 2, "model": "Nehalem"}},
    "passthrough": {"cpu": {"model": "host-passthrough"}},
    "requests": {"memory": None, "resources": {"requests": {"memory": "64Mi", "cpu": "1500m"}}},
    "features": {"features": {"acpi": {"enabled": False}, "apic": {}}, "machine": {"type": "pc"}},
    "firmware": {
        "firmware": {"uuid": "5d307ca9-b3ef-428c-8861-06e72d69f223", "serial": EVIL, "kernelBoot": {"kernelArgs": EVIL}}
    },
    "bios": {"firmware": {"bootloader": {"bios": {"useSerial": True}}}},
    "efi": {"firmware": {"bootloader": {"efi": {"secureBoot": False}}}},
    "secure": {"firmware": {"bootloader": {"efi": {}}}},
    "pages": {"memory": {"guest": "1Gi", "hugepages": {"pageSize": "1Gi"}}},
    "zone": {"clock": {"timezone": "Europe/Berlin"}},
    "clock": {
        "clock": {
            "utc": {"offsetSeconds": 60},
            "timer": {"hpet": {"present": False}, "pit": {"tickPolicy": "delay"}, "rtc": {"tickPolicy": "catchup"}},
        }
    },
    "disks": {
        "devices": {
            "disks": [
                {"name": "one", "serial": "A1", "cache": "none", "io": "native", "bootOrder": 1},
                {"name": "two", "cdrom": {"bus": "scsi", "tray": "open"}},
                {"name": "not-prepared", "disk": {"bus": "virtio"}},
            ]
        }
    },
    "interfaces": {
        "devices": {
            "interfaces": [
                {"name": "a", "masquerade": {}, "macAddress": "DE-AD-00-00-BE-EF", "state": "down", "bootOrder": 2},
                {"name": "b", "masquerade": {}, "model": "e1000", "state": "absent"},
            ]
        }
    },
    "devices": {
        "devices": {
            "rng": {},
            "watchdog": {"name": "dog", "i6300esb": {"action": "poweroff"}},
            "inputs": [{"name": "tablet", "type": "tablet", "bus": "usb"}],
            "autoattachMemBalloon": False,
        }
    },
}


@pytest.fixture(scope="module")
def schema() -> etree.RelaxNG:
    return etree.RelaxNG(etree.parse(SCHEMA))


def _render(name: str, driver: Driver) -> etree._Element:
    base = CORPUS[name]
    domain = {key: value for key, value in base.items() if value is not None}
    vmi = machine(driver, domain)
    if base.get("memory", {}) is None:
        vmi.spec.domain.memory = None
    before = vmi.model_dump()
    text = render(vmi, driver, context(driver, driver.virt_types[-1]))
    assert vmi.model_dump() == before
    return etree.fromstring(text)


@pytest.mark.parametrize("case", CORPUS)
@pytest.mark.parametrize("name", registry().names())
def test_rendered_domains_are_valid(case: str, name: str, schema: etree.RelaxNG) -> None:
    driver = registry().get(name)
    assert driver
    domain = _render(case, driver)
    assert schema.validate(domain), schema.error_log


@pytest.fixture
def qemu() -> Driver:
    driver = registry().get("qemu")
    assert driver
    return driver


def test_hostile_text_stays_text(qemu: Driver) -> None:
    domain = _render("firmware", qemu)
    assert domain.findtext("os/cmdline") == EVIL
    assert domain.findtext("sysinfo/system/entry[@name='serial']") == EVIL
    assert domain.findtext("os/kernel") == f"/nowhere/{EVIL}/vmlinuz"


def test_memory_in_huge_pages_is_of_one_size_and_needs_no_mount(qemu: Driver) -> None:
    domain = _render("pages", qemu)
    (page,) = domain.findall("memoryBacking/hugepages/page")
    assert dict(page.attrib) == {"size": "1048576", "unit": "KiB"}
    assert domain.xpath("string(memoryBacking/source/@type)") == "memfd"
    assert domain.xpath("string(devices/memballoon/@freePageReporting)") == "off"
    assert _render("plain", qemu).find("memoryBacking") is None


def test_each_cpu_has_one_of_the_nodes_and_emulation_the_last(qemu: Driver) -> None:
    vmi = machine(qemu, {"cpu": {"cores": 2, "dedicatedCpuPlacement": True, "isolateEmulatorThread": True}})
    domain = etree.fromstring(render(vmi, qemu, replace(context(qemu, "qemu"), cpus=(3, 5, 7))))
    assert domain.xpath("string(vcpu/@cpuset)") == "3,5,7"
    pins = [(pin.get("vcpu"), pin.get("cpuset")) for pin in domain.iterfind("cputune/vcpupin")]
    assert pins == [("0", "3"), ("1", "5")]
    assert [pin.get("cpuset") for pin in domain.iterfind("cputune/emulatorpin")] == ["7"]
    assert domain.xpath("string(devices/memballoon/@freePageReporting)") == "off"
    both = etree.fromstring(render(machine(qemu, {"cpu": {"cores": 2}}), qemu, context(qemu, "qemu")))
    assert (both.find("cputune"), both.find("vcpu").get("cpuset")) == (None, None)  # type: ignore[union-attr]


def test_a_socket_to_the_host_has_the_number_of_the_status(qemu: Driver, schema: etree.RelaxNG) -> None:
    vmi = machine(qemu, {"devices": {"autoattachVSOCK": True}})
    assert etree.fromstring(render(vmi, qemu, context(qemu, "qemu"))).find("devices/vsock") is None
    vmi.status = VirtualMachineInstanceStatus.model_validate({"VSOCKCID": 4294967294})
    domain = etree.fromstring(render(vmi, qemu, context(qemu, "qemu")))
    assert schema.validate(domain), schema.error_log
    assert dict(domain.find("devices/vsock/cid").attrib) == {"auto": "no", "address": "4294967294"}  # type: ignore[union-attr]


def test_disks_have_names_by_bus_and_order(qemu: Driver) -> None:
    disks = _render("disks", qemu).findall("devices/disk")
    assert [(d.xpath("string(target/@dev)"), d.xpath("string(target/@bus)")) for d in disks] == [
        ("vda", "virtio"),
        ("sda", "scsi"),
    ]
    assert [d.find("readonly") is not None for d in disks] == [False, True]
    assert [letters(n) for n in (0, 25, 26, 27, 701, 702)] == ["a", "z", "aa", "ab", "zz", "aaa"]


def test_devices_of_one_name_are_told_apart(qemu: Driver) -> None:
    named = {"name": "same"}
    devices = {
        "disks": [named],
        "interfaces": [{**named, "masquerade": {}}],
        "inputs": [{**named, "type": "tablet"}],
        "sound": named,
        "watchdog": {**named, "i6300esb": {}},
    }
    context = DomainContext("qemu", disks={"same": DiskSource(Path("/nowhere/disk.img"), "raw")})
    domain = etree.fromstring(render(machine(qemu, {"devices": devices}), qemu, context))
    aliases = [element.get("name") for element in domain.iterfind("devices/*/alias")]
    assert len(aliases) == len(set(aliases)) == 5


def test_a_drive_without_a_disc_has_no_source(qemu: Driver) -> None:
    vmi = machine(qemu, {"devices": {"disks": [{"name": "drive", "cdrom": {"bus": "sata"}}]}})
    drive = etree.fromstring(render(vmi, qemu, DomainContext("qemu"))).find("devices/disk")
    assert drive is not None
    assert (drive.get("device"), drive.find("source")) == ("cdrom", None)
    assert drive.find("target").attrib == {"dev": "sda", "bus": "sata"}  # type: ignore[union-attr]


def test_a_block_device_is_one_for_libvirt_too(qemu: Driver) -> None:
    vmi = machine(qemu, {"devices": {"disks": [{"name": "raw", "disk": {"bus": "virtio"}}]}})
    context = DomainContext("qemu", disks={"raw": DiskSource(Path("/dev/raw"), "raw", block=True)})
    disk = etree.fromstring(render(vmi, qemu, context)).find("devices/disk")
    assert disk is not None
    assert disk.get("type") == "block"
    assert disk.find("source").attrib == {"dev": "/dev/raw"}  # type: ignore[union-attr]


@pytest.mark.parametrize(("given", "cache"), [({}, "none"), ({"cache": "none"}, "none")])
def test_a_shared_disk_is_not_cached(qemu: Driver, given: dict[str, Any], cache: str) -> None:
    disks = [{"name": "shared", "shareable": True, **given}, {"name": "own"}]
    sources = {name: DiskSource(Path(f"/{name}.img"), "raw") for name in ("shared", "own")}
    domain = render(machine(qemu, {"devices": {"disks": disks}}), qemu, DomainContext("qemu", disks=sources))
    shared, own = etree.fromstring(domain).findall("devices/disk")
    assert (shared.find("shareable") is not None, shared.xpath("string(driver/@cache)")) == (True, cache)
    assert (own.find("shareable") is not None, own.xpath("string(driver/@cache)")) == (False, "")


def test_requests_stand_in_for_memory_and_cpus(qemu: Driver) -> None:
    domain = _render("requests", qemu)
    assert domain.findtext("memory") == str(64 * 1024 * 1024)
    assert domain.findtext("vcpu") == "2"


def test_the_emulator_gets_all_that_it_can_emulate(qemu: Driver) -> None:
    assert _render("plain", qemu).xpath("string(cpu/@mode)") == "maximum"
    text = render(machine(qemu), qemu, context(qemu, "kvm"))
    assert etree.fromstring(text).xpath("string(cpu/@mode)") == "host-model"


def test_a_container_never_shares_the_hosts_network() -> None:
    driver = registry().get("lxc")
    assert driver
    domain = _render("interfaces", driver)
    assert domain.find("features/privnet") is not None
    assert domain.find("devices/interface") is None
    assert domain.findtext("cputune/quota") == "100000"


JOINED = CardSource(
    "tap0", "k6t-eth0", "02:00:00:00:00:07", 1400, 2, IPv4Interface("10.0.2.2/24"), IPv4Address("10.0.2.1")
)


@pytest.mark.parametrize("name", ["qemu", "lxc"])
def test_cards_are_joined_to_what_the_node_made(name: str) -> None:
    driver = registry().get(name)
    assert driver
    card = {"name": "a", "masquerade": {}, "macAddress": "02:00:00:00:00:01"}
    vmi = machine(driver, {"devices": {"interfaces": [card]}})
    made = context(driver, driver.virt_types[-1])
    domain = etree.fromstring(render(vmi, driver, replace(made, cards={"a": JOINED})))
    assert etree.RelaxNG(etree.parse(str(SCHEMA))).validate(domain)
    (found,) = domain.findall("devices/interface")
    mac = found.find("mac")
    assert mac is not None
    assert mac.get("address") == JOINED.mac
    told = {child.tag: dict(child.attrib) for child in found}
    if driver.cards is CardKind.TAP:
        assert found.get("type") == "ethernet"
        assert told["target"] == {"dev": "tap0", "managed": "no"}
        assert (told["driver"], told["mtu"]) == ({"queues": "2"}, {"size": "1400"})
    else:
        assert (found.get("type"), told["source"]) == ("bridge", {"bridge": "k6t-eth0"})
        assert told["ip"] == {"address": "10.0.2.2", "family": "ipv4", "prefix": "24"}
        assert told["route"]["gateway"] == "10.0.2.1"
        assert told["guest"] == {"dev": "eth0"}
