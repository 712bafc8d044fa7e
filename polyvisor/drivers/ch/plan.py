"""How a launcher reaches Cloud Hypervisor: through a libvirt daemon of its own, which loads that driver and no other.

libvirt's driver cannot be embedded, and it forgets its machines when its daemon ends. So the daemon belongs to one
machine, has its files in folders of the launcher, and has no idle timeout: nothing tells it that a machine still runs.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from polyvisor.drivers.base import LauncherPlan

HYPERVISOR = "cloud-hypervisor"
MODULE = "libvirt_driver_ch.so"
DAEMONS = ("virtchd", "libvirtd")
PLACES = ("/usr/sbin", "/usr/local/sbin")
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


def module_path() -> Path | None:
    """Return libvirt's Cloud Hypervisor module, if it is installed."""
    patterns = [f"{top}/{lib}/libvirt/connection-driver" for top in ("usr", "usr/local") for lib in ("lib*", "lib/*")]
    found = [path / MODULE for pattern in patterns for path in sorted(Path("/").glob(pattern))]
    return next((path for path in found if path.exists()), None)


def daemon_path() -> Path | None:
    """Return the daemon that can load the module: the driver's own, or the one for all drivers."""
    found = [shutil.which(name, path=":".join(PLACES)) for name in DAEMONS]
    return next((Path(path) for path in found if path), None)


def launcher_plan(folder: Path) -> LauncherPlan:
    """Build the plan for a launcher in ``folder``."""
    module, daemon = module_path(), daemon_path() or Path(PLACES[0], DAEMONS[0])
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
