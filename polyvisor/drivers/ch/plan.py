"""How a launcher reaches Cloud Hypervisor: through a libvirt daemon of its own, which loads that driver and no other.

libvirt's driver cannot be embedded, and it forgets its machines when its daemon ends. So the daemon belongs to one
machine, has its files in folders of the launcher, and has no idle timeout: nothing tells it that a machine still runs.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from polyvisor.drivers.base import LauncherPlan

HYPERVISOR = "cloud-hypervisor"
MODULE = "libvirt_driver_ch.so"
DAEMONS = ("virtchd", "libvirtd")
PLACES = ("/usr/sbin", "/usr/local/sbin")
MODULES = ("lib/*/libvirt/connection-driver", "lib*/libvirt/connection-driver")
CONFIG = """\
unix_sock_dir = "{folder}/run"
unix_sock_rw_perms = "0700"
auth_unix_rw = "none"
max_clients = 8
max_anonymous_clients = 8
min_workers = 1
max_workers = 2
prio_workers = 1
admin_min_workers = 1
admin_max_workers = 1
"""
BINDS = {
    "/run/libvirt": "run",
    "/var/lib/libvirt": "lib",
    "/var/log/libvirt": "log",
    "/var/cache/libvirt": "cache",
    "/etc/libvirt": "etc",
}
UNIFIED = "/sys/fs/cgroup/unified"


def installed() -> tuple[Path, Path] | None:
    """Return a daemon and libvirt's Cloud Hypervisor module, from the same installation, if there is one."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *PLACES])
    for name in DAEMONS:
        daemon = shutil.which(name, path=path)
        for pattern in MODULES if daemon else ():
            for folder in sorted(Path(daemon or "").parent.parent.glob(pattern)):
                if (folder / MODULE).exists():
                    return Path(daemon or ""), folder / MODULE
    return None


def launcher_plan(folder: Path) -> LauncherPlan:
    """Build the plan for a launcher in ``folder``."""
    daemon, module = installed() or (Path(PLACES[0], DAEMONS[0]), None)
    socket = "libvirt-sock" if daemon.name == "libvirtd" else f"{daemon.name}-sock"
    return LauncherPlan(
        uri=f"ch+unix:///system?socket={folder}/run/{socket}",
        files={"etc/daemon.conf": CONFIG.format(folder=folder)},
        links={f"modules/{MODULE}": str(module)} if module else {},
        daemon=(str(daemon), f"--config={folder}/etc/daemon.conf", f"--pid-file={folder}/daemon.pid"),
        binds=BINDS,
        unmounts=(UNIFIED,),
        environment={"LIBVIRT_DRIVER_DIR": f"{folder}/modules"},
        poll_seconds=1.0,
        devices=("/dev/kvm",),
        privileged=True,
    )
