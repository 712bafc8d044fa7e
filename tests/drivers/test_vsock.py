"""Sockets between host and guest, where the host has no device: libvirt takes the domain and misses the device.

That is as far as it goes without the device; no guest was seen to use such a socket.
"""

from __future__ import annotations

from pathlib import Path

from polyvisor.api import VirtualMachineInstanceStatus
from polyvisor.domain import DomainContext, render
from polyvisor.drivers.qemu import QemuDriver
from polyvisor.drivers.qemu.plan import VSOCK
from tests.drivers.kit import bench, machine
from tests.needs import absent

DRIVER = QemuDriver()


def test_libvirt_takes_the_domain_and_misses_the_device() -> None:
    if Path(VSOCK).exists():
        absent("no /dev/vhost-vsock", "this machine has it")
    vmi = machine(DRIVER, {"devices": {"autoattachVSOCK": True}})
    vmi.status = VirtualMachineInstanceStatus.model_validate({"VSOCKCID": 4242})
    with bench(DRIVER, vmi) as one:
        error = one.launch().ask("start", xml=render(vmi, DRIVER, DomainContext("qemu")))["error"]
    assert error["code"] == "libvirt"
    assert "vsock" in error["message"]
