"""How a launcher reaches LXC: through a libvirt daemon of its own, which loads the LXC driver and no other."""

from __future__ import annotations

from pathlib import Path

from polyvisor.drivers.base import LauncherPlan
from polyvisor.drivers.private_daemon import find_module, packaged_module, private_daemon

DAEMON = Path("/usr/sbin/libvirtd")
MODULE = "libvirt_driver_lxc.so"
# A container's init has no one way to be told "power down": systemd takes 38 (SIGRTMIN+4), busybox 12 (SIGUSR2), others
# read initctl, each ignoring the rest; libvirt takes initctl for done even where nobody reads it, so all are asked at
# once. A plain program ends on 15 (SIGTERM), but busybox takes that for a reboot, so it comes last.
SHUTDOWN = ("initctl+signal:38,12", "signal:15")


def module_path() -> Path | None:
    """Return libvirt's LXC module, if it is installed."""
    return find_module(Path("/usr"), MODULE)


def launcher_plan(folder: Path) -> LauncherPlan:
    """Build the plan for a launcher in ``folder``; where libvirt is not installed, for one in a launcher's image."""
    module = module_path() or packaged_module(MODULE)
    files = {"etc/lxc.conf": 'security_driver = "none"\n'}
    return private_daemon(folder, "lxc", DAEMON, module, ["--timeout=60"], files=files, shutdown=SHUTDOWN)
