"""What libvirt's Cloud Hypervisor driver is given, beyond what every driver's XML is tested for."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyvisor.domain import DiskSource, DomainContext
from polyvisor.drivers.ch import CloudHypervisorDriver
from tests.drivers.schema import rendered

DRIVER = CloudHypervisorDriver()
CONTEXT = DomainContext(
    "kvm",
    disks={"one": DiskSource(Path("/d/one.img"), "raw"), "two": DiskSource(Path("/d/two.img"), "raw")},
    kernel=Path("/d/vmlinuz"),
    initrd=Path("/d/initrd"),
)
KERNEL = {"kernelBoot": {"container": {"image": "k", "kernelPath": "/k"}, "kernelArgs": "console=ttyS0 root=/dev/vda"}}
REFUSED = {"memballoon", "video", "graphics", "input", "rng", "watchdog", "sound", "tpm", "panic", "interface"}


def test_devices_are_disks_and_a_serial_port() -> None:
    disks = [{"name": "one"}, {"name": "two", "disk": {"bus": "virtio", "readonly": True}}]
    domain = {"firmware": KERNEL, "cpu": {"cores": 3, "model": "host-passthrough"}, "clock": {"utc": {}}}
    xml = rendered(DRIVER, CONTEXT, {**domain, "devices": {"disks": disks, "rng": {}}})
    assert [(d.get("dev"), d.get("bus")) for d in xml.iterfind("devices/disk/target")] == [
        ("vda", "virtio"),
        ("vdb", "virtio"),
    ]
    assert [d.find("readonly") is not None for d in xml.iterfind("devices/disk")] == [False, True]
    assert {device.tag for device in xml.iterfind("devices/*")} == {"disk", "serial"}
    assert not {device.tag for device in xml.iter()} & REFUSED
    assert xml.findtext("os/kernel") == "/d/vmlinuz"
    assert xml.findtext("vcpu") == "3"


def test_no_serial_port_where_none_is_wanted() -> None:
    xml = rendered(DRIVER, CONTEXT, {"firmware": KERNEL, "devices": {"autoattachSerialConsole": False}})
    assert xml.find("devices/serial") is None


@pytest.mark.parametrize("length", [5, 60, 61, 127])
def test_names_fit_into_a_sockets_path_and_stay_apart(length: int) -> None:
    one, two = (
        DRIVER.domain_name("n" * length, f"{n}0000000-0000-4000-8000-000000000000" if length > 60 else "") for n in "12"
    )
    assert len(one) <= 60
    assert (one == two) == (length <= 60)


def test_a_node_without_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = DRIVER.probe(tmp_path)
    assert not found.available
    assert "cloud-hypervisor is not installed" in found.reason
