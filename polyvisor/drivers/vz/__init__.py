"""Virtuozzo: virtual machines of a Virtuozzo host, through its SDK.

libvirt's driver refuses by name nearly everything that it cannot set, so the shared XML is cut down to what it takes.
Events come from Virtuozzo's dispatcher. The hypervisor runs on its own host; a launcher serves it over a connection.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from polyvisor.drivers.base import MIB, Driver, Endpoint, LauncherPlan, Place, ProbeResult, Rule, Support
from polyvisor.drivers.uris import UriScheme
from polyvisor.drivers.vz.table import FEATURES, RULES

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.api import VirtualMachineInstanceSpec

URI = "vz:///system"
TOOL = "prlsrvctl"
DROPPED = ("sysinfo", "features", "cpu", "iothreads", "cputune", "memoryBacking", "launchSecurity")
KEPT_DEVICES = ("disk",)


class VzDriver(Driver):
    """libvirt's Virtuozzo driver."""

    name = "vz"
    title = "Virtuozzo"
    links = ("https://libvirt.org/drvvirtuozzo.html",)
    uris = (URI, "vz+ssh://root@HOST/system")
    schemes = (UriScheme("vz"),)
    virt_types = ("vz",)
    place = Place.HOST
    disk_formats = ("qcow2",)
    no_image = "the hypervisor and libvirt's driver for it run on a Virtuozzo host, which a connection reaches"

    @property
    def features(self) -> Mapping[str, Support]:
        """The table."""
        return FEATURES

    @property
    def rules(self) -> Mapping[str, Rule]:
        """The rules."""
        return RULES

    def probe(self, scratch: Path) -> ProbeResult:
        """Ask libvirt for the version, where Virtuozzo's tools are."""
        if shutil.which(TOOL) is None:
            return ProbeResult(False, f"this is no Virtuozzo host ({TOOL} not found)")
        from polyvisor.drivers.ask import versions

        return versions(URI, self.virt_types)

    def launcher(self, folder: Path, scratch: Path | None = None, endpoint: Endpoint | None = None) -> LauncherPlan:
        """A connection to the host."""
        environment = endpoint.environment if endpoint else {}
        return LauncherPlan(uri=endpoint.uri if endpoint else URI, environment=environment)

    def defaults(self, spec: VirtualMachineInstanceSpec) -> None:
        """Put disks and CD-ROMs on SCSI, the one bus that every Virtuozzo has."""
        for disk in spec.domain.devices.disks or []:
            if disk.cdrom is not None:
                disk.cdrom.bus = disk.cdrom.bus or "scsi"
            elif disk.disk is not None:
                disk.disk.bus = disk.disk.bus or "scsi"

    def adapt(self, domain: _Element, spec: VirtualMachineInstanceSpec) -> None:
        """Leave out what the driver refuses, and round the memory up to whole MiB."""
        for name in DROPPED:
            for element in domain.findall(name):
                domain.remove(element)
        memory, vcpu, system, devices = (domain.find(name) for name in ("memory", "vcpu", "os", "devices"))
        assert memory is not None
        assert vcpu is not None
        assert system is not None
        assert devices is not None
        memory.text = str(-(-int(memory.text or 0) // MIB))
        memory.set("unit", "MiB")
        _drop(vcpu, "placement")
        for element in list(system):
            if element.tag == "type":
                _drop(element, "machine")
            else:
                system.remove(element)
        for element in list(devices):
            if element.tag not in KEPT_DEVICES:
                devices.remove(element)
        for driver in devices.iterfind("disk/driver"):
            for name in ("cache", "io", "discard", "queues", "iothread", "error_policy"):
                _drop(driver, name)
        if devices.find("disk") is not None:
            boot = system.makeelement("boot", {"dev": "hd"})
            system.append(boot)

    def overhead_bytes(self, spec: VirtualMachineInstanceSpec) -> int:
        """Count the launcher; the hypervisor's memory is its host's."""
        return 40 * MIB


def _drop(element: _Element, name: str) -> None:
    if name in element.attrib:
        del element.attrib[name]
