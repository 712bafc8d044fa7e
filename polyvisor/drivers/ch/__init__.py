"""Cloud Hypervisor: a small virtual machine monitor in one process, with virtio devices alone.

It needs a kernel (or a firmware that is loaded like one). The console is a serial port, so that a kernel's arguments
(``console=ttyS0``) serve here as they do elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from polyvisor.drivers.base import MIB, Driver, Endpoint, LauncherPlan, ProbeResult, Support
from polyvisor.drivers.ch.plan import launcher_plan
from polyvisor.drivers.ch.table import FEATURES
from polyvisor.drivers.pruning import keep, keep_attributes, part
from polyvisor.drivers.uris import UriScheme

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.api import VirtualMachineInstanceSpec

KEPT = ("name", "uuid", "memory", "vcpu", "os", "on_poweroff", "on_reboot", "on_crash", "devices")
KEPT_OF_OS = ("type", "kernel", "initrd", "cmdline")
KEPT_DEVICES = ("disk", "console")
KEPT_OF_DISK = ("driver", "source", "target", "readonly", "alias")
NAME_CHARACTERS = 60
"""The name becomes a part of a unix socket's path, which libvirt does not make longer than 107 characters."""


PROGRAMS = tuple(f"{folder}/cloud-hypervisor" for folder in ("/usr/local/bin", "/usr/bin"))


class CloudHypervisorDriver(Driver):
    """libvirt's Cloud Hypervisor driver."""

    name = "ch"
    title = "Cloud Hypervisor"
    links = ("https://libvirt.org/drvch.html", "https://www.cloudhypervisor.org/")
    uris = ("ch:///system", "ch:///session", "ch+ssh://root@HOST/system")
    schemes = (UriScheme("ch"),)
    watched = ("/dev/kvm", "/dev/mshv", *PROGRAMS, "/boot")
    virt_types = ("kvm", "hyperv")
    graceful_shutdown = False
    no_image = "neither Cloud Hypervisor nor libvirt's driver for it is packaged by Debian; build an image with both"

    @property
    def features(self) -> Mapping[str, Support]:
        """The table."""
        return FEATURES

    def probe(self, scratch: Path) -> ProbeResult:
        """Boot a kernel."""
        from polyvisor.drivers.ch.probe import probe

        return probe(scratch)

    def launcher(self, folder: Path, scratch: Path | None = None, endpoint: Endpoint | None = None) -> LauncherPlan:
        """A private daemon."""
        return launcher_plan(folder)

    def domain_name(self, name: str, uuid: str) -> str:
        """Shorten a name that is too long for a socket's path; the uuid keeps it apart from others."""
        return name if len(name) <= NAME_CHARACTERS else f"{name[: NAME_CHARACTERS - 9]}-{uuid[:8]}"

    def defaults(self, spec: VirtualMachineInstanceSpec) -> None:
        """Put disks on virtio, all that there is."""
        for disk in spec.domain.devices.disks or []:
            if disk.disk is not None:
                disk.disk.bus = disk.disk.bus or "virtio"

    def adapt(self, domain: _Element, spec: VirtualMachineInstanceSpec) -> None:
        """Keep what the driver tells Cloud Hypervisor, for much of the rest is refused; make the console a port."""
        keep(domain, KEPT)
        system, devices = part(domain, "os"), part(domain, "devices")
        system.attrib.clear()
        keep(system, KEPT_OF_OS)
        keep_attributes(part(system, "type"), ("arch",))
        keep(devices, KEPT_DEVICES)
        for console in devices.iterfind("console"):
            console.tag = "serial"
        for disk in devices.iterfind("disk"):
            keep(disk, KEPT_OF_DISK)
            keep_attributes(part(disk, "driver"), ("type",))

    def recognizes(self, domain: _Element) -> str:
        """Take domains that name the program: their types are those of others, too."""
        emulator = domain.findtext("devices/emulator") or ""
        return super().recognizes(domain) if Path(emulator.strip()).name.startswith("cloud-hypervisor") else ""

    def overhead_bytes(self, spec: VirtualMachineInstanceSpec) -> int:
        """Count the launcher, the private daemon and Cloud Hypervisor itself."""
        return (40 + 20 + 16) * MIB
