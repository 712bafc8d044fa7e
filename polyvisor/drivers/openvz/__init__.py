"""OpenVZ: containers of an OpenVZ kernel, which libvirt makes and runs with the tools ``vzctl`` and ``vzlist``.

The tools know a container by a number, so the domain's name is one; it follows from the machine's uuid. libvirt's
driver gives the tools the root filesystem, the number of CPUs, a memory limit and nothing else that a machine has.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from polyvisor.drivers.base import MIB, Driver, Endpoint, LauncherPlan, Limit, ProbeResult, RootKind, Support
from polyvisor.drivers.openvz.table import FEATURES, LIMITS
from polyvisor.drivers.uris import UriScheme

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.api import VirtualMachineInstanceSpec

URI = "openvz:///system"
CONTROL = Path("/proc/vz")
TOOLS = ("vzctl", "vzlist")
FIRST, NUMBERS = 1000, 2_000_000_000
KEPT = ("name", "uuid", "memory", "vcpu", "os", "on_poweroff", "on_reboot", "on_crash", "devices")


class OpenvzDriver(Driver):
    """libvirt's OpenVZ driver."""

    name = "openvz"
    title = "OpenVZ"
    links = ("https://libvirt.org/drvopenvz.html",)
    uris = (URI, "openvz+ssh://root@HOST/system")
    schemes = (UriScheme("openvz", paths=("/system",)),)
    virt_types = ("openvz",)
    os_types = ("exe",)
    root = RootKind.FILESYSTEM
    disk_formats = ()
    no_image = (
        "vzctl works on the kernel of its host, with files under /etc/vz and /vz: it cannot be put in a container"
    )

    @property
    def features(self) -> Mapping[str, Support]:
        """The table."""
        return FEATURES

    @property
    def limits(self) -> Mapping[str, Limit]:
        """The limits."""
        return LIMITS

    def probe(self, scratch: Path) -> ProbeResult:
        """Ask libvirt for the version of vzctl, where there is an OpenVZ kernel."""
        if not CONTROL.exists():
            return ProbeResult(False, "this is no OpenVZ kernel (there is no /proc/vz)")
        if not os.access(CONTROL, os.W_OK):
            return ProbeResult(False, "OpenVZ needs root (/proc/vz cannot be written)")
        if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
            return ProbeResult(False, f"{' and '.join(missing)} not found; install OpenVZ's tools")
        from polyvisor.drivers.ask import versions

        return versions(URI, self.virt_types)

    def launcher(self, folder: Path, scratch: Path | None = None, endpoint: Endpoint | None = None) -> LauncherPlan:
        """libvirt inside the launcher; the driver reports no events."""
        return LauncherPlan(uri=endpoint.uri if endpoint else URI, poll_seconds=1.0, shutdown=("default",))

    def domain_name(self, name: str, uuid: str) -> str:
        """Return the container's number."""
        return str(FIRST + int(uuid.replace("-", "")[:8], 16) % NUMBERS)

    def defaults(self, spec: VirtualMachineInstanceSpec) -> None:
        """Nothing is open: a container has no devices to choose."""

    def adapt(self, domain: _Element, spec: VirtualMachineInstanceSpec) -> None:
        """Keep what the driver reads: an init and the root filesystem."""
        for element in list(domain):
            if element.tag not in KEPT:
                domain.remove(element)
        system = domain.find("os")
        devices = domain.find("devices")
        assert system is not None
        assert devices is not None
        system.attrib.clear()
        for element in list(system):
            system.remove(element)
        kind = system.makeelement("type", {})
        kind.text = "exe"
        init = system.makeelement("init", {})
        init.text = "/sbin/init"
        system.extend([kind, init])
        for element in list(devices):
            target = element.find("target")
            if element.tag != "filesystem" or target is None or target.get("dir") != "/":
                devices.remove(element)

    def overhead_bytes(self, spec: VirtualMachineInstanceSpec) -> int:
        """Count the launcher alone: a container's processes are the guest's."""
        return 40 * MIB
