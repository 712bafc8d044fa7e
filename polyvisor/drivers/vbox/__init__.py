"""VirtualBox: machines of a desktop, which belong to VirtualBox's own service on the same machine.

libvirt speaks to it through VirtualBox's XPCOM library. There are no events, so the launcher looks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from polyvisor.drivers.base import MIB, Driver, Endpoint, LauncherPlan, Limit, Place, ProbeResult, Rule, Support
from polyvisor.drivers.pruning import keep, keep_attributes, part
from polyvisor.drivers.uris import UriScheme
from polyvisor.drivers.vbox.table import FEATURES, LIMITS, RULES

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.api import VirtualMachineInstanceSpec

URI = "vbox:///session"
LIBRARY = "VBoxXPCOMC.so"
FOLDERS = ("/opt/VirtualBox", "/usr/lib/virtualbox", "/usr/lib/virtualbox-ose", "/usr/lib64/virtualbox")
"""Some of the places where libvirt looks for the library; others are told by VBOX_APP_HOME."""
KEPT = ("name", "uuid", "memory", "vcpu", "os", "features", "on_poweroff", "on_reboot", "on_crash", "devices")
MODELS = {"e1000": "82540EM", "pcnet": "Am79C973"}
"""KubeVirt's names of network cards -> VirtualBox's."""


class VboxDriver(Driver):
    """libvirt's VirtualBox driver."""

    name = "vbox"
    title = "VirtualBox"
    links = ("https://libvirt.org/drvvbox.html", "https://www.virtualbox.org/manual/")
    uris = (URI, "vbox+ssh://USER@HOST/session")
    schemes = (UriScheme("vbox"),)
    virt_types = ("vbox",)
    keeps_metadata = keeps_description = False  # src/vbox/vbox_common.c vboxDomainDefineXMLFlags writes neither
    place = Place.HOST
    disk_formats = ("vdi", "vmdk")
    no_image = "machines run in VirtualBox's windows, over its kernel module and service; Debian does not package it"

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
        """Ask libvirt for the version, where VirtualBox's library is."""
        folders = (os.environ.get("VBOX_APP_HOME", ""), *FOLDERS)
        if not any(folder and (Path(folder) / LIBRARY).exists() for folder in folders):
            return ProbeResult(False, f"VirtualBox is not installed ({LIBRARY} not found)")
        from polyvisor.drivers.ask import versions

        return versions(URI, self.virt_types)

    def launcher(self, folder: Path, scratch: Path | None = None, endpoint: Endpoint | None = None) -> LauncherPlan:
        """libvirt inside the launcher; the driver reports no events."""
        environment = endpoint.environment if endpoint else {}
        return LauncherPlan(uri=endpoint.uri if endpoint else URI, environment=environment, poll_seconds=1.0)

    def defaults(self, spec: VirtualMachineInstanceSpec) -> None:
        """Choose SATA disks and Intel's network card, which every guest knows."""
        for disk in spec.domain.devices.disks or []:
            if disk.disk is not None:
                disk.disk.bus = disk.disk.bus or "sata"
        for interface in spec.domain.devices.interfaces or []:
            interface.model = interface.model or "e1000"

    def adapt(self, domain: _Element, spec: VirtualMachineInstanceSpec) -> None:
        """Keep what the driver reads. It boots from nothing unless it is told from what."""
        keep(domain, KEPT)
        system, devices = part(domain, "os"), part(domain, "devices")
        system.attrib.clear()
        keep(system, ("type",))
        keep_attributes(part(system, "type"), ("arch",))
        keep_attributes(part(domain, "vcpu"), ("placement",))
        features = part(domain, "features")
        keep(features, ("acpi", "apic"))
        for controller in features.iterfind("apic"):
            controller.attrib.clear()
        keep(devices, ("disk", "interface", "sound"))
        _adapt_disks(devices)
        for device in ("hd", "cdrom"):
            system.append(system.makeelement("boot", {"dev": device}))
        for interface in devices.iterfind("interface"):
            keep(interface, ("mac", "model", "alias"))
            for model in interface.iterfind("model"):
                model.set("type", MODELS.get(model.get("type", ""), model.get("type", "")))

    def generalize(self, domain: _Element) -> None:
        """Call network cards by KubeVirt's names."""
        shared = {theirs: ours for ours, theirs in MODELS.items()}
        for model in domain.iterfind("devices/interface/model"):
            model.set("type", shared.get(model.get("type", ""), model.get("type", "")))

    def overhead_bytes(self, spec: VirtualMachineInstanceSpec) -> int:
        """Count the launcher; the hypervisor's memory is its host's."""
        return 40 * MIB


def _adapt_disks(devices: _Element) -> None:
    for disk in devices.iterfind("disk"):
        keep(disk, ("source", "target", "alias"))
        target, source = part(disk, "target"), part(disk, "source")
        keep_attributes(target, ("dev", "bus"))
        if PurePosixPath(source.get("file", "")).suffix == ".iso":
            disk.set("device", "cdrom")
    if devices.find("disk/target[@bus='scsi']") is not None:
        devices.append(devices.makeelement("controller", {"type": "scsi", "index": "0", "model": "lsilogic"}))
