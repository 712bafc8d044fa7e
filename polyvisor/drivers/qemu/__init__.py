"""QEMU: a whole machine emulated in one process, fast with KVM, anywhere without it (TCG)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from polyvisor.drivers.base import (
    MIB,
    CardKind,
    Driver,
    Endpoint,
    LauncherPlan,
    Limit,
    ProbeResult,
    RootKind,
    Rule,
    Support,
)
from polyvisor.drivers.enlightenments import add_enlightenments
from polyvisor.drivers.qemu.addresses import USB_PORTS, write_addresses
from polyvisor.drivers.qemu.limits import LIMITS, RULES
from polyvisor.drivers.qemu.overrides import add_discard_granularity, move_discard_granularity
from polyvisor.drivers.qemu.plan import INCOMING, VSOCK, launcher_plan
from polyvisor.drivers.qemu.table import FEATURES
from polyvisor.drivers.uris import UriScheme
from polyvisor.machine import Vcpus

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.api import VirtualMachineInstanceSpec

EMULATED = "qemu"
WITH_THREADS = "Nehalem"
FIRMWARE = "/usr/share/qemu/firmware"
ARGUMENTS = "http://libvirt.org/schemas/domain/qemu/1.0"
COMMAND_LINE = f"{{{ARGUMENTS}}}commandline"
PROGRAMS = tuple(f"{folder}/qemu-system-{os.uname().machine}" for folder in ("/usr/local/bin", "/usr/bin"))


class QemuDriver(Driver):
    """libvirt's QEMU driver."""

    name = "qemu"
    title = "QEMU"
    links = ("https://libvirt.org/drvqemu.html", "https://www.qemu.org/docs/master/")
    schemes = (UriScheme("qemu"),)
    virt_types = ("kvm", EMULATED)
    emulated_virt_types = frozenset({EMULATED})
    aliases: Mapping[str, str] = {"kvm": "kvm"}
    watched = ("/dev/kvm", VSOCK, *PROGRAMS, FIRMWARE, "/boot")
    root = RootKind.DISK
    enabled_by_default = True
    accelerators = ("/dev/kvm", "/dev/vhost-net")
    host_screen = True
    hotplug_buses = ("scsi", "virtio")
    disk_formats = ("qcow2", "raw")
    cards = CardKind.TAP
    own_user = True

    @property
    def features(self) -> Mapping[str, Support]:
        """The table."""
        return FEATURES

    @property
    def limits(self) -> Mapping[str, Limit]:
        """The limits."""
        return LIMITS

    @property
    def rules(self) -> Mapping[str, Rule]:
        """The rules."""
        return RULES

    def probe(self, scratch: Path) -> ProbeResult:
        """Boot a kernel with each virt type."""
        from polyvisor.drivers.qemu.probe import probe

        return probe(scratch)

    def launcher(self, folder: Path, scratch: Path | None = None, endpoint: Endpoint | None = None) -> LauncherPlan:
        """libvirt inside the launcher."""
        return launcher_plan(folder, scratch)

    def defaults(self, spec: VirtualMachineInstanceSpec) -> None:
        """Choose q35, virtio where the guest is likely to know it, and a screen unless it is switched off."""
        from polyvisor.api import Machine

        domain = spec.domain
        if domain.machine is None or not domain.machine.type:
            domain.machine = Machine(type="q35")
        if domain.devices.autoattach_graphics_device is None:
            domain.devices.autoattach_graphics_device = True
        for disk in domain.devices.disks or []:
            if disk.cdrom is not None:
                disk.cdrom.bus = disk.cdrom.bus or "sata"
            elif disk.disk is not None:
                disk.disk.bus = disk.disk.bus or "virtio"
        for interface in domain.devices.interfaces or []:
            interface.model = interface.model or "virtio"

    def adapt(self, domain: _Element, spec: VirtualMachineInstanceSpec) -> None:
        """Choose the CPU that the virt type can give, and leave out what costs memory and nobody asked for."""
        cpu = domain.find("cpu")
        if cpu is not None and cpu.get("mode") is None:
            _choose_cpu(cpu, emulated=domain.get("type") == EMULATED, architecture=domain.find("os/type"))
        add_enlightenments(domain, spec)
        devices = domain.find("devices")
        assert devices is not None
        for driver in devices.iterfind("disk[@device='disk']/driver"):
            driver.set("discard", "unmap")
        usb = devices.xpath("redirdev | *[@bus='usb'] | disk[target/@bus='usb']")
        controller = {"model": "qemu-xhci", "ports": str(USB_PORTS)} if usb else {"model": "none"}
        devices.append(devices.makeelement("controller", {"type": "usb", "index": "0", **controller}))
        if devices.find("memballoon") is None:
            devices.append(devices.makeelement("memballoon", {"model": "none"}))
        if devices.find("controller[@type='scsi']") is None and spec.domain.devices.disable_hotplug is not True:
            # disks that come while the machine runs find it there
            devices.append(devices.makeelement("controller", {"type": "scsi", "index": "0", "model": "virtio-scsi"}))
        video = devices.find("video")
        if video is None and devices.find("graphics") is None:
            video = devices.makeelement("video", {})
            video.append(video.makeelement("model", {"type": "none"}))
            devices.append(video)
        write_addresses(domain, devices, spec)
        add_discard_granularity(domain, spec)

    def generalize(self, domain: _Element) -> None:
        """Put the properties that were written past libvirt where newer versions of it have them."""
        move_discard_granularity(domain)

    def receive(self, domain: _Element) -> None:
        """Have QEMU wait for the state of a domain that moves, by arguments that libvirt passes on."""
        for former in domain.findall(COMMAND_LINE):
            domain.remove(former)
        line = domain.makeelement(COMMAND_LINE, nsmap={"qemu": ARGUMENTS})
        for value in INCOMING:
            line.append(line.makeelement(f"{{{ARGUMENTS}}}arg", {"value": value}))
        domain.append(line)

    def recognizes(self, domain: _Element) -> str:
        """Leave domains that name the program of another hypervisor which uses KVM, too."""
        program = Path((domain.findtext("devices/emulator") or "").strip()).name
        ours = not program or any(word in program for word in ("qemu", "kvm"))
        return super().recognizes(domain) if ours else ""

    def overhead_bytes(self, spec: VirtualMachineInstanceSpec) -> int:
        """Count the launcher, QEMU itself, its threads, and a screen with a picture on it."""
        screen = 0 if spec.domain.devices.autoattach_graphics_device is False else 20
        return (40 + 48 + 8 * Vcpus.of(spec.domain).count + screen) * MIB


def _choose_cpu(cpu: _Element, emulated: bool, architecture: _Element | None) -> None:
    """Take the host's CPU or all that can be emulated; but a guest that is to see threads needs a CPU that has them.

    The emulator's fullest CPU on x86 is one of AMD's without the flag by which guests learn of threads.
    """
    topology = cpu.find("topology")
    threads = topology is not None and topology.get("threads") != "1"
    if emulated and threads and architecture is not None and architecture.get("arch") == "x86_64":
        cpu.set("mode", "custom")
        cpu.set("match", "exact")
        model = cpu.makeelement("model", {})
        model.text = WITH_THREADS
        cpu.insert(0, model)
    else:
        cpu.set("mode", "maximum" if emulated else "host-model")
