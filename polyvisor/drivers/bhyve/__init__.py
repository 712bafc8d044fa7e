"""bhyve: virtual machines of a FreeBSD host, which the host's libvirt starts.

The host is reached over a connection. Machines boot by UEFI unless something else is asked: libvirt's other way, a
loader that runs on the host, knows FreeBSD alone and reads the guest's disk with the host's rights.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from polyvisor.drivers.base import MIB, Driver, Endpoint, LauncherPlan, Place, ProbeResult, Rule, Support
from polyvisor.drivers.bhyve.table import FEATURES, RULES
from polyvisor.drivers.pruning import keep, keep_attributes, part
from polyvisor.drivers.uris import UriScheme

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.api import VirtualMachineInstanceSpec

URI = "bhyve:///system"
BINARY = "bhyve"
KEPT = ("name", "uuid", "memory", "vcpu", "os", "features", "cpu", "clock", "on_poweroff", "on_reboot", "on_crash")
KEPT_DEVICES = ("disk", "console", "interface", "input", "rng")
KEPT_OF_DISK = ("driver", "source", "target", "alias")
KEPT_OF_INTERFACE = ("mac", "source", "model", "alias")
RANDOM = "/dev/random"
NAME_CHARACTERS = 31
"""The longest name that every FreeBSD since 10 takes for a machine."""


class BhyveDriver(Driver):
    """libvirt's bhyve driver."""

    name = "bhyve"
    title = "bhyve"
    links = ("https://libvirt.org/drvbhyve.html", "https://docs.freebsd.org/en/books/handbook/virtualization/")
    uris = (URI, "bhyve+ssh://root@HOST/system")
    schemes = (UriScheme("bhyve"),)
    virt_types = ("bhyve",)
    place = Place.HOST
    no_image = "bhyve and libvirt's driver for it run on a FreeBSD host, which a connection reaches"

    @property
    def features(self) -> Mapping[str, Support]:
        """The table."""
        return FEATURES

    @property
    def rules(self) -> Mapping[str, Rule]:
        """The rules."""
        return RULES

    def probe(self, scratch: Path) -> ProbeResult:
        """Ask libvirt for the version, on FreeBSD."""
        if not sys.platform.startswith("freebsd"):
            return ProbeResult(False, "bhyve runs on FreeBSD alone; this machine is none")
        if shutil.which(BINARY) is None:
            return ProbeResult(False, "bhyve is not installed; it is a part of FreeBSD for CPUs with virtualisation")
        from polyvisor.drivers.bhyve.probe import probe

        return probe(URI)

    def launcher(self, folder: Path, scratch: Path | None = None, endpoint: Endpoint | None = None) -> LauncherPlan:
        """A connection to the host; the driver reports no events of guests."""
        environment = endpoint.environment if endpoint else {}
        return LauncherPlan(uri=endpoint.uri if endpoint else URI, environment=environment, poll_seconds=1.0)

    def domain_name(self, name: str, uuid: str) -> str:
        """Shorten a name that bhyve would not take; the uuid keeps it apart from others."""
        return name if len(name) <= NAME_CHARACTERS else f"{name[: NAME_CHARACTERS - 9]}-{uuid[:8]}"

    def defaults(self, spec: VirtualMachineInstanceSpec) -> None:
        """Choose virtio disks and network cards, and SATA for CD-ROMs; a network card without a model is refused."""
        for disk in spec.domain.devices.disks or []:
            if disk.cdrom is not None:
                disk.cdrom.bus = disk.cdrom.bus or "sata"
            elif disk.disk is not None:
                disk.disk.bus = disk.disk.bus or "virtio"
        for interface in spec.domain.devices.interfaces or []:
            interface.model = interface.model or "virtio"

    def adapt(self, domain: _Element, spec: VirtualMachineInstanceSpec) -> None:
        """Keep what the driver writes into bhyve's command line; the console is a null-modem device."""
        keep(domain, (*KEPT, "devices"))
        _adapt_os(part(domain, "os"))
        keep(part(domain, "features"), ("acpi", "apic"))
        for controller in domain.iterfind("features/apic"):
            controller.attrib.clear()
        keep_attributes(part(domain, "vcpu"), ("placement",))
        cpu = spec.domain.cpu
        if cpu is not None and ((cpu.sockets or 1) > 1 or (cpu.threads or 1) > 1):
            keep(part(domain, "cpu"), ("topology",))
            part(domain, "cpu").attrib.clear()
        else:
            domain.remove(part(domain, "cpu"))
        _adapt_devices(part(domain, "devices"), domain.findtext("uuid") or "")

    def overhead_bytes(self, spec: VirtualMachineInstanceSpec) -> int:
        """Count the launcher; the hypervisor's memory is its host's."""
        return 40 * MIB


def _adapt_os(system: _Element) -> None:
    keep(system, ("type",))
    system.set("firmware", "efi")
    keep_attributes(part(system, "type"), ("arch",))


def _adapt_devices(devices: _Element, uuid: str) -> None:
    keep(devices, KEPT_DEVICES)
    for console in devices.iterfind("console"):
        console.tag = "serial"
        console.set("type", "nmdm")
        ends = {"master": f"/dev/nmdm{uuid}A", "slave": f"/dev/nmdm{uuid}B"}
        console.append(console.makeelement("source", ends))
    for disk in devices.iterfind("disk"):
        keep(disk, KEPT_OF_DISK)
        keep_attributes(part(disk, "driver"), ("type",))
        keep_attributes(part(disk, "target"), ("dev", "bus"))
    for interface in list(devices.iterfind("interface")):
        if interface.get("type") == "user":
            devices.remove(interface)
        keep(interface, KEPT_OF_INTERFACE)
    for backend in devices.iterfind("rng/backend"):
        backend.text = RANDOM
    if devices.find("input") is not None:
        devices.append(devices.makeelement("controller", {"type": "usb", "index": "0", "model": "nec-xhci"}))
