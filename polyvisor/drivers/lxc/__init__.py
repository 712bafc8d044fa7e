"""LXC: a container with an init of its own on the host's kernel, as libvirt's LXC driver runs it.

The container has a user namespace: its root is an ordinary user of the node, with an id of the machine's own range, and
its capabilities hold for what is the container's alone. What isn't obvious: libvirt changes no owner of a file, so
folders are mounted with their ids mapped (:mod:`.mounts`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from polyvisor.drivers.base import MIB, CardKind, Driver, Endpoint, LauncherPlan, ProbeResult, RootKind, Support
from polyvisor.drivers.lxc.mounts import map_folders, unmap_folders
from polyvisor.drivers.lxc.plan import launcher_plan
from polyvisor.drivers.lxc.table import FEATURES
from polyvisor.drivers.private_daemon import module_folders
from polyvisor.drivers.pruning import keep
from polyvisor.drivers.uris import UriScheme

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.api import VirtualMachineInstanceSpec

INIT = "/sbin/init"
PERIOD = 100_000
ABSENT = ("cpu", "clock", "sysinfo", "on_poweroff", "on_reboot", "on_crash")
KEPT_DEVICES = ("filesystem", "console", "interface")
KEPT_OF_CARDS = ("mac", "source", "ip", "route")
TAKEN = (
    *("audit_control", "block_suspend", "dac_read_search", "mac_admin", "mac_override", "mknod", "sys_module"),
    *("sys_pacct", "sys_rawio", "sys_time", "syslog", "wake_alarm"),
)
"""Capabilities that a container's processes can never have, though they would hold in its user namespace alone."""
HIDDEN = (
    *("/proc/acpi/", "/proc/asound/", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/sched_debug", "/proc/scsi/", "/proc/sysrq-trigger", "/proc/timer_list", "/proc/timer_stats"),
    *("/sys/devices/virtual/powercap/", "/sys/firmware/"),
)
"""What runc hides from containers, too."""


class LxcDriver(Driver):
    """libvirt's LXC driver."""

    name = "lxc"
    title = "LXC"
    links = ("https://libvirt.org/drvlxc.html",)
    schemes = (UriScheme("lxc", paths=("/system", "/")),)
    virt_types = ("lxc",)
    os_types = ("exe",)
    root = RootKind.FILESYSTEM
    disk_formats = ()
    cards = CardKind.BRIDGE
    own_ids = True
    hides = HIDDEN
    watched = ("/usr/lib/libvirt", "/usr/libexec", "/usr/sbin/libvirtd", *module_folders(Path("/usr")))

    @property
    def features(self) -> Mapping[str, Support]:
        """The table."""
        return FEATURES

    def probe(self, scratch: Path) -> ProbeResult:
        """Run a tiny container."""
        from polyvisor.drivers.lxc.probe import probe

        return probe(scratch)

    def launcher(self, folder: Path, scratch: Path | None = None, endpoint: Endpoint | None = None) -> LauncherPlan:
        """A private daemon."""
        return launcher_plan(folder)

    def defaults(self, spec: VirtualMachineInstanceSpec) -> None:
        """Nothing is open: a container has no devices to choose."""

    def adapt(self, domain: _Element, spec: VirtualMachineInstanceSpec) -> None:
        """Make a container of the machine: an init, namespaces of its own, few capabilities, a limit of CPU time."""
        for name in ABSENT:
            for element in domain.findall(name):
                domain.remove(element)
        system = domain.find("os")
        features = domain.find("features")
        devices = domain.find("devices")
        vcpu = domain.find("vcpu")
        assert system is not None
        assert devices is not None
        assert vcpu is not None
        system.attrib.clear()
        for element in list(system):
            system.remove(element)
        for name, text in (("type", "exe"), ("init", INIT)):
            child = system.makeelement(name, {})
            child.text = text
            system.append(child)
        if features is None:
            features = domain.makeelement("features", {})
            system.addnext(features)
        for element in list(features):
            features.remove(element)
        features.append(features.makeelement("privnet", {}))
        capabilities = features.makeelement("capabilities", {"policy": "default"})
        capabilities.extend(capabilities.makeelement(name, {"state": "off"}) for name in TAKEN)
        features.append(capabilities)
        for element in list(devices):
            if element.tag not in KEPT_DEVICES or element.get("type") == "user":
                devices.remove(element)
        map_folders(domain, devices)
        for number, card in enumerate(devices.iterfind("interface")):
            keep(card, KEPT_OF_CARDS)
            card.append(card.makeelement("guest", {"dev": f"eth{number}"}))
        # The driver does not read <vcpu>: without this a container would have all of the host's CPU time.
        tune = domain.makeelement("cputune", {})
        for name, number in (("period", PERIOD), ("quota", PERIOD * int(vcpu.text or 1))):
            child = tune.makeelement(name, {})
            child.text = str(number)
            tune.append(child)
        vcpu.addnext(tune)

    def generalize(self, domain: _Element) -> None:
        """Name folders as the node has them."""
        unmap_folders(domain)

    def overhead_bytes(self, spec: VirtualMachineInstanceSpec) -> int:
        """Count launcher, private daemon and libvirt's controller process."""
        return (40 + 8) * MIB
