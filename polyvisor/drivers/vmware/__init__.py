"""VMware Workstation and Player: machines of a desktop, which libvirt runs with VMware's tool ``vmrun``.

libvirt writes a VMX file beside the first disk and hands it to ``vmrun``. There are no events, so the launcher looks.
Workstation and Player are two connections; the probe leaves a word about which there is in its scratch folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from polyvisor.drivers import vmx
from polyvisor.drivers.base import MIB, Driver, Endpoint, LauncherPlan, Limit, Place, ProbeResult, Rule, Support
from polyvisor.drivers.uris import UriScheme
from polyvisor.drivers.vmware.probe import found_product, probe
from polyvisor.drivers.vmware.table import FEATURES

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.api import VirtualMachineInstanceSpec

SCSI_DISKS = 7
"""libvirt's VMware driver counts with SCSI of eight addresses, one of them the controller's."""

LIMITS = vmx.limits(SCSI_DISKS, Limit(8, vmx.HARDWARE, "libvirt writes machines with version 7 of VMware's hardware"))


class VmwareDriver(Driver):
    """libvirt's driver for VMware Workstation and Player."""

    name = "vmware"
    title = "VMware Workstation"
    links = ("https://libvirt.org/drvvmware.html",)
    uris = ("vmwarews:///session", "vmwareplayer:///session")
    schemes = tuple(UriScheme(name, paths=("/session",)) for name in ("vmwarews", "vmwareplayer", "vmwarefusion"))
    virt_types = ("vmware",)
    keeps_metadata = False  # src/vmx/vmx.c virVMXFormatConfig: the annotation, which is the description, alone
    place = Place.HOST
    disk_formats = ("vmdk",)
    no_image = "machines run in the windows of VMware's own program, on a desktop where it is installed and licensed"

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
        return vmx.RULES

    def probe(self, scratch: Path) -> ProbeResult:
        """Ask libvirt for the version, where ``vmrun`` is."""
        if shutil.which("vmrun") is None:
            return ProbeResult(False, "vmrun not found; install VMware Workstation or Player (with VIX)")
        return probe(scratch, self.virt_types)

    def launcher(self, folder: Path, scratch: Path | None = None, endpoint: Endpoint | None = None) -> LauncherPlan:
        """libvirt inside the launcher; the driver works on its own machine alone and reports no events."""
        product = found_product(scratch) if scratch else "ws"
        environment = endpoint.environment if endpoint else {}
        uri = endpoint.uri if endpoint else f"vmware{product}:///session"
        return LauncherPlan(uri=uri, environment=environment, poll_seconds=1.0)

    def defaults(self, spec: VirtualMachineInstanceSpec) -> None:
        """Choose SCSI disks and VMware's network cards."""
        vmx.choose(spec)

    def adapt(self, domain: _Element, spec: VirtualMachineInstanceSpec) -> None:
        """Keep what libvirt writes into a VMX file. Without graphics in it the machine gets a window."""
        vmx.adapt(domain, spec, SCSI_DISKS)

    def recognizes(self, domain: _Element) -> str:
        """Leave domains whose images are in a server's datastores."""
        sources = [source.get("file", "") for source in domain.iterfind("devices/disk/source[@file]")]
        stored = any(source.startswith("[") for source in sources)
        return "" if stored else super().recognizes(domain)

    def generalize(self, domain: _Element) -> None:
        """Call network cards by KubeVirt's names."""
        vmx.generalize(domain)

    def overhead_bytes(self, spec: VirtualMachineInstanceSpec) -> int:
        """Count the launcher; the hypervisor's memory is its host's."""
        return 40 * MIB
