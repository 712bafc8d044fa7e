"""How a launcher reaches Cloud Hypervisor: through a libvirt daemon of its own, which loads that driver and no other.

libvirt's driver cannot be embedded, and it forgets its machines when its daemon ends. So the daemon belongs to one
machine and has no idle timeout: nothing tells it that a machine still runs.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from polyvisor.drivers.base import LauncherPlan
from polyvisor.drivers.private_daemon import find_module, packaged_module, private_daemon

HYPERVISOR = "cloud-hypervisor"
MODULE = "libvirt_driver_ch.so"
DAEMONS = ("virtchd", "libvirtd")
PLACES = ("/usr/sbin", "/usr/local/sbin")


def installed() -> tuple[Path, Path] | None:
    """Return a daemon and libvirt's Cloud Hypervisor module, from the same installation, if there is one."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *PLACES])
    for name in DAEMONS:
        daemon = shutil.which(name, path=path)
        module = find_module(Path(daemon).parent.parent, MODULE) if daemon else None
        if daemon and module:
            return Path(daemon), module
    return None


def launcher_plan(folder: Path) -> LauncherPlan:
    """Build the plan for a launcher in ``folder``."""
    daemon, module = installed() or (Path(PLACES[0], DAEMONS[0]), packaged_module(MODULE))
    log = {"log/ch/.keep": ""}  # libvirt does not make the folder
    return private_daemon(folder, "ch", daemon, module, files=log, poll_seconds=1.0, devices=("/dev/kvm",))
