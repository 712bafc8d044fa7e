"""Xen: guests of a Xen host, which the libvirt of its first domain (dom0) runs through libxl.

Which kind of guest is a virt type: ``xen`` is a whole machine (HVM), ``xenpvh`` and ``xenpv`` boot a kernel of their
own beside Xen and have no firmware and no emulated devices. To libvirt all are of domain type ``xen``; they differ in
the type of their operating system.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from polyvisor.drivers.base import MIB, Driver, Endpoint, LauncherPlan, Limit, Place, ProbeResult, Rule, Support
from polyvisor.drivers.pruning import keep, keep_attributes, part
from polyvisor.drivers.uris import UriScheme
from polyvisor.drivers.xen.disks import name_disks
from polyvisor.drivers.xen.table import FEATURES, LIMITS, PV, PVH, RULES, WHOLE

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.api import VirtualMachineInstanceSpec

URI = "xen:///system"
KINDS = {WHOLE: ("hvm", "xenfv"), PVH: ("xenpvh", "xenpvh"), PV: ("linux", "xenpv")}
"""Virt type -> libvirt's type of operating system, and machine."""
OFFERED = {WHOLE: "hvm", PVH: "xenpvh", PV: "xen"}
"""Virt type -> how a host's capabilities call it (libvirt's libxl_capabilities.c)."""
BUSES = {"xv": "xen", "hd": "ide", "sd": "scsi"}
"""Beginnings of disks' names -> the bus that they stand for."""
KEPT = ("name", "uuid", "memory", "vcpu", "os", "features", "cpu", "clock", "on_poweroff", "on_reboot", "on_crash")
KEPT_OF_OS = ("type", "kernel", "initrd", "cmdline")
KEPT_FEATURES = ("acpi", "apic", "hyperv")
KEPT_DEVICES = ("disk", "console", "interface")
KEPT_DEVICES_OF_WHOLE = (*KEPT_DEVICES, "input", "sound")
KEPT_OF_DISK = ("driver", "source", "target", "readonly", "alias")
KEPT_OF_INTERFACE = ("mac", "source", "model", "link", "alias")


class XenDriver(Driver):
    """libvirt's Xen driver, libxl."""

    name = "xen"
    title = "Xen"
    links = ("https://libvirt.org/drvxen.html", "https://xenproject.org/")
    uris = (URI, "xen+ssh://root@HOST/system")
    schemes = (UriScheme("xen", paths=("/system", "/")),)
    own_domain = "00000000-0000-0000-0000-000000000000"
    watched = ("/dev/xen/privcmd",)
    virt_types = tuple(KINDS)
    os_types = tuple(kind for kind, _ in KINDS.values())
    place = Place.HOST
    disk_formats = ("qcow2", "raw")
    no_image = "a Xen host has one libvirt, which runs in its first domain; a connection reaches it"

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
        """Ask libvirt which kinds of guests this Xen runs."""
        from polyvisor.drivers.xen.probe import probe

        return probe(URI)

    def launcher(self, folder: Path, scratch: Path | None = None, endpoint: Endpoint | None = None) -> LauncherPlan:
        """A connection to the host's libvirt."""
        environment = endpoint.environment if endpoint else {}
        return LauncherPlan(uri=endpoint.uri if endpoint else URI, environment=environment, start_paused=True)

    def defaults(self, spec: VirtualMachineInstanceSpec) -> None:
        """Choose Xen's own disks and network cards, and IDE for CD-ROMs."""
        for disk in spec.domain.devices.disks or []:
            if disk.cdrom is not None:
                disk.cdrom.bus = disk.cdrom.bus or "ide"
            elif disk.disk is not None:
                disk.disk.bus = disk.disk.bus or "xen"
        for interface in spec.domain.devices.interfaces or []:
            interface.model = interface.model or "netfront"

    def adapt(self, domain: _Element, spec: VirtualMachineInstanceSpec) -> None:
        """Make the kind of guest that the virt type names, of what libxl is told."""
        kind, machine = KINDS[domain.get("type", WHOLE)]
        whole = kind == "hvm"
        domain.set("type", WHOLE)
        keep(domain, (*KEPT, "devices"))
        _adapt_os(part(domain, "os"), kind, machine)
        if whole:
            _adapt_features(part(domain, "features"))
        else:
            domain.remove(part(domain, "features"))
        _adapt_cpu(part(domain, "cpu"))
        devices = part(domain, "devices")
        keep(devices, KEPT_DEVICES_OF_WHOLE if whole else KEPT_DEVICES)
        for interface in list(devices.iterfind("interface")):
            if interface.get("type") == "user":
                devices.remove(interface)
            keep(interface, KEPT_OF_INTERFACE)
        for disk in devices.iterfind("disk"):
            keep(disk, KEPT_OF_DISK)
            driver = part(disk, "driver")
            keep_attributes(driver, ("type",))
            # Without a driver's name libxl takes every image for a raw one.
            driver.set("name", "qemu")
        name_disks(devices.findall("disk"), whole)
        if whole and devices.find("disk[@device='cdrom']") is not None:
            for device in ("hd", "cdrom"):
                boot = domain.makeelement("boot", {"dev": device})
                part(domain, "os").append(boot)

    def offered(self, capabilities: _Element) -> tuple[str, ...]:
        """Tell the kinds of guests by the types of operating systems, of which capabilities have names of their own."""
        found = {(guest.findtext("os_type") or "").strip() for guest in capabilities.iterfind("guest")}
        return tuple(kind for kind, word in OFFERED.items() if word in found)

    def recognizes(self, domain: _Element) -> str:
        """Tell the kinds of guests apart by their operating system's type and, of "linux", the machine."""
        guest = domain.find("os/type")
        if domain.get("type") != WHOLE or guest is None:
            return ""
        found = {kind: virt_type for virt_type, (kind, _) in KINDS.items()}.get((guest.text or "").strip(), "")
        return PVH if guest.get("machine") == "xenpvh" else found

    def generalize(self, domain: _Element) -> None:
        """Say by the bus what libxl reads from a disk's name, and leave out the machine that goes with the kind."""
        for target in domain.iterfind("devices/disk/target"):
            bus = BUSES.get(target.get("dev", "")[:2])
            if bus:
                target.set("bus", bus)
        for guest in domain.iterfind("os/type"):
            guest.attrib.pop("machine", "")

    def overhead_bytes(self, spec: VirtualMachineInstanceSpec) -> int:
        """Count the launcher; the hypervisor's memory and the device model's are the host's."""
        return 40 * MIB


def _adapt_os(system: _Element, kind: str, machine: str) -> None:
    """Write the kind of guest. Any word about secure boot, even "no", makes libvirt refuse the machine."""
    if kind != "hvm":
        system.attrib.clear()
    keep(system, KEPT_OF_OS)
    guest = part(system, "type")
    guest.text = kind
    guest.set("machine", machine)


def _adapt_features(features: _Element) -> None:
    keep(features, KEPT_FEATURES)
    apic = features.find("apic")
    if apic is not None:
        apic.attrib.clear()


def _adapt_cpu(cpu: _Element) -> None:
    """Keep it only for its features: guests see the host's CPU anyway.

    libvirt's daemon crashes on a mode of "host-passthrough" where it has not recognised the host's CPU.
    """
    keep(cpu, ("feature",))
    cpu.attrib.clear()
    if len(cpu):
        cpu.set("mode", "host-passthrough")
    else:
        parent = cpu.getparent()
        assert parent is not None
        parent.remove(cpu)
