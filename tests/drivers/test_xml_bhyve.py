"""What libvirt's bhyve driver is given, beyond what every driver's XML is tested for."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyvisor.domain import DiskSource, DomainContext
from polyvisor.drivers.base import Endpoint
from polyvisor.drivers.bhyve import BhyveDriver
from tests.drivers.schema import rendered

DRIVER = BhyveDriver()
CONTEXT = DomainContext("bhyve", disks={name: DiskSource(Path(f"/d/{name}.img"), "raw") for name in ("a", "b", "c")})


def test_a_machine_with_all_it_can_have() -> None:
    domain = {
        "cpu": {"sockets": 2, "cores": 2, "model": "host-passthrough"},
        "features": {"acpi": {}, "apic": {}},
        "clock": {"utc": {}},
        "firmware": {"bootloader": {"efi": {"secureBoot": False}}},
        "devices": {
            "disks": [{"name": "a"}, {"name": "b", "disk": {"bus": "sata"}}, {"name": "c", "cdrom": {}}],
            "inputs": [{"name": "t", "type": "tablet", "bus": "usb"}],
            "rng": {},
        },
    }
    xml = rendered(DRIVER, CONTEXT, domain)
    targets = [(target.get("dev"), target.get("bus")) for target in xml.iterfind("devices/disk/target")]
    assert targets == [("vda", "virtio"), ("sda", "sata"), ("sdb", "sata")]
    assert xml.findtext("devices/rng/backend") == "/dev/random"
    (controller,) = xml.iterfind("devices/controller")
    assert dict(controller.attrib) == {"type": "usb", "index": "0", "model": "nec-xhci"}
    (topology,) = xml.iterfind("cpu/*")
    assert dict(topology.attrib) == {"sockets": "2", "cores": "2", "threads": "1"}
    assert [child.tag for child in xml.iterfind("os/*")] == ["type"]


def test_a_plain_machine_boots_by_uefi_with_a_null_modem_for_its_console() -> None:
    xml = rendered(DRIVER, CONTEXT, {"cpu": {"cores": 2}, "devices": {"disks": [{"name": "a"}]}})
    system, serial = xml.find("os"), xml.find("devices/serial")
    assert system is not None
    assert serial is not None
    assert system.get("firmware") == "efi"
    assert serial.get("type") == "nmdm"
    (ends,) = serial
    uuid = xml.findtext("uuid")
    assert dict(ends.attrib) == {"master": f"/dev/nmdm{uuid}A", "slave": f"/dev/nmdm{uuid}B"}
    assert xml.find("cpu") is None
    assert {device.tag for device in xml.iterfind("devices/*")} == {"disk", "serial"}


def test_names_are_short_enough_for_every_freebsd() -> None:
    assert DRIVER.domain_name("default_small", "u") == "default_small"
    long = DRIVER.domain_name("n" * 100, "12345678-0000-4000-8000-000000000000")
    assert long.endswith("-12345678")
    assert len(long) == 31


def test_a_host_is_reached_over_a_connection_and_looked_at() -> None:
    endpoint = Endpoint("bhyve+ssh://root@host/system", Path("/secrets/auth.conf"))
    plan = DRIVER.launcher(Path("/l"), endpoint=endpoint)
    assert plan.uri == endpoint.uri
    assert plan.environment == {"LIBVIRT_AUTH_FILE": "/secrets/auth.conf"}
    assert plan.poll_seconds > 0


def test_a_node_that_is_no_freebsd_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    found = DRIVER.probe(tmp_path)
    assert not found.available
    assert "FreeBSD" in found.reason
