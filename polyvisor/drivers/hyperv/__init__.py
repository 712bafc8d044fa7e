"""Microsoft Hyper-V: machines of a Windows host, which libvirt asks by WinRM.

libvirt makes machines of generation 1, which boot from IDE; further disks are on SCSI. The host gives its machines
uuids of its own, so a domain is known by its name, which therefore holds a part of the machine's uuid.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from string import ascii_lowercase
from typing import TYPE_CHECKING

from polyvisor.domain.disks import letters
from polyvisor.drivers.base import MIB, Driver, Endpoint, LauncherPlan, Limit, Place, ProbeResult, Support
from polyvisor.drivers.hyperv.table import FEATURES, LIMITS
from polyvisor.drivers.pruning import keep, keep_attributes, part
from polyvisor.drivers.uris import UriScheme

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.api import VirtualMachineInstanceSpec

URI = "hyperv://localhost/"
KEPT = ("name", "uuid", "memory", "vcpu", "os", "on_poweroff", "on_reboot", "on_crash", "devices")
IDE_DISKS = 4
SCSI_DISKS = 7
"""On one controller, as libvirt counts; each needs a controller that is written down, of which there are four."""
_DRIVE = re.compile(r"[A-Za-z]:")


class HypervDriver(Driver):
    """libvirt's driver for Microsoft Hyper-V."""

    name = "hyperv"
    title = "Microsoft Hyper-V"
    links = ("https://libvirt.org/drvhyperv.html",)
    uris = ("hyperv://administrator@HOST/", "hyperv://administrator@HOST/?transport=http")
    schemes = (
        UriScheme(
            "hyperv",
            transports=("",),
            paths=("/", ""),
            parameters={"transport": "https|http"},
            host=True,
            insecure={"transport": "http"},
        ),
    )
    virt_types = ("hyperv",)
    keeps_metadata = keeps_description = False  # src/hyperv/hyperv_driver.c hypervDomainDefineXML writes neither
    place = Place.HOST
    disk_formats = ("vhdx",)
    no_image = "Debian builds libvirt without the Hyper-V driver, for it lacks the library openwsman"

    @property
    def features(self) -> Mapping[str, Support]:
        """The table."""
        return FEATURES

    @property
    def limits(self) -> Mapping[str, Limit]:
        """The limits."""
        return LIMITS

    def probe(self, scratch: Path) -> ProbeResult:
        """Say no: a Hyper-V host runs Windows, so it is never the machine that asks."""
        return ProbeResult(False, "a Hyper-V host is reached over the network; it is never this machine")

    def launcher(self, folder: Path, scratch: Path | None = None, endpoint: Endpoint | None = None) -> LauncherPlan:
        """A connection to the host, whose credentials libvirt reads from their own file."""
        environment = endpoint.environment if endpoint else {}
        uri = endpoint.uri if endpoint else URI
        return LauncherPlan(uri=uri, environment=environment, poll_seconds=2.0, own_uuids=True)

    def domain_name(self, name: str, uuid: str) -> str:
        """Make the name tell machines apart that follow each other under one name."""
        return f"{name}-{uuid[:8]}"

    def defaults(self, spec: VirtualMachineInstanceSpec) -> None:
        """Leave disks that name no bus to :meth:`adapt`: KubeVirt has no word for IDE, from which machines boot."""

    def adapt(self, domain: _Element, spec: VirtualMachineInstanceSpec) -> None:
        """Keep what the driver reads: CPUs, memory and disks."""
        keep(domain, KEPT)
        system, devices = part(domain, "os"), part(domain, "devices")
        system.attrib.clear()
        keep(system, ("type",))
        keep_attributes(part(system, "type"), ("arch",))
        keep_attributes(part(domain, "vcpu"), ("placement",))
        keep(devices, ("disk",))
        _adapt_disks(devices)

    def generalize(self, domain: _Element) -> None:
        """Write Windows' paths as others write them."""
        for source in domain.iterfind("devices/disk/source[@file]"):
            source.set("file", posix_path(source.get("file", "")))

    def overhead_bytes(self, spec: VirtualMachineInstanceSpec) -> int:
        """Count the launcher; the hypervisor's memory is its host's."""
        return 40 * MIB


def _adapt_disks(devices: _Element) -> None:
    ide = [f"hd{letter}" for letter in ascii_lowercase[:IDE_DISKS]]
    used = 0
    for disk in devices.iterfind("disk"):
        keep(disk, ("source", "target", "alias"))
        target, source = part(disk, "target"), part(disk, "source")
        on_ide = bool(ide) and target.get("bus") != "scsi"
        target.attrib.clear()
        target.set("dev", ide.pop(0) if on_ide else f"sd{letters(used)}")
        target.set("bus", "ide" if on_ide else "scsi")
        used += not on_ide
        source.set("file", windows_path(source.get("file", "")))
    for number in range(-(-used // SCSI_DISKS)):
        devices.append(devices.makeelement("controller", {"type": "scsi", "index": str(number)}))


def windows_path(path: str) -> str:
    r"""Write ``/D:/machines/disk.vhdx`` as ``D:\machines\disk.vhdx``; a path that names no drive is on C."""
    parts = PurePosixPath(path).parts[1:]
    drive = () if parts and _DRIVE.fullmatch(parts[0]) else ("C:",)
    return "\\".join((*drive, *parts))


def posix_path(path: str) -> str:
    r"""Write ``D:\machines\disk.vhdx`` as ``/D:/machines/disk.vhdx``; a path that names no drive stays."""
    return "/" + path.replace("\\", "/") if _DRIVE.match(path) else path
