"""libvirt's test driver: machines that libvirt only pretends to run. Of use to those who test what uses libvirt.

It keeps a machine's description as it was defined and plays its life: running, paused, shut off, with events. No guest
runs, so nothing has a console. The pretended node is described in a file of the launcher; it is gone with the launcher.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from polyvisor.drivers.ask import versions
from polyvisor.drivers.base import Driver, Endpoint, LauncherPlan, ProbeResult, Support
from polyvisor.drivers.uris import UriScheme
from polyvisor_driver_test.table import FEATURES

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.api import VirtualMachineInstanceSpec

ARCHITECTURE = "i686"


class LibvirtTestDriver(Driver):
    """libvirt's test driver."""

    api = 1
    name = "test"
    title = "libvirt's test driver"
    links = ("https://libvirt.org/drvtest.html",)
    uris = ("test:///default",)
    schemes = (UriScheme("test", paths=("/default",)),)
    virt_types = ("test",)
    disk_formats = ("raw", "qcow2")
    no_image = "nothing but libvirt's client library is needed"

    @property
    def features(self) -> Mapping[str, Support]:
        """The table."""
        return FEATURES

    def probe(self, scratch: Path) -> ProbeResult:
        """Ask for the versions; the driver is a part of libvirt's library and works everywhere."""
        return versions("test:///default", self.virt_types)

    def launcher(self, folder: Path, scratch: Path | None = None, endpoint: Endpoint | None = None) -> LauncherPlan:
        """An empty node of the launcher's own."""
        return LauncherPlan(uri=f"test://{folder}/node.xml", files={"node.xml": "<node/>\n"})

    def defaults(self, spec: VirtualMachineInstanceSpec) -> None:
        """Choose virtio, as it costs nothing here."""
        for disk in spec.domain.devices.disks or []:
            if disk.disk is not None:
                disk.disk.bus = disk.disk.bus or "virtio"
        for interface in spec.domain.devices.interfaces or []:
            interface.model = interface.model or "virtio"

    def adapt(self, domain: _Element, spec: VirtualMachineInstanceSpec) -> None:
        """Name the one architecture that the pretended host has, and a CPU where the user left it open."""
        for kind in domain.iterfind("os/type"):
            kind.set("arch", ARCHITECTURE)
        for cpu in domain.iterfind("cpu"):
            if cpu.get("mode") is None:
                cpu.set("mode", "maximum")
