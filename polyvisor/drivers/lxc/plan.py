"""How a launcher reaches LXC: through a libvirt daemon of its own, which loads the LXC driver and no other.

libvirt's LXC driver cannot be embedded and keeps its files at fixed places, so the daemon lives in a mount namespace in
which those places are folders of the launcher. There the unified hierarchy of a hybrid cgroup layout is taken away:
libvirt 9.0 tries to use it beside the v1 controllers and fails.
"""

from __future__ import annotations

from pathlib import Path

from polyvisor.drivers.base import LauncherPlan

UNIFIED = "/sys/fs/cgroup/unified"
MODULE = "libvirt_driver_lxc.so"
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
# A container's init has no one way to be told "power down": systemd takes 38 (SIGRTMIN+4), busybox 12 (SIGUSR2), others
# read initctl, each ignoring the rest; libvirt takes initctl for done even where nobody reads it, so all are asked at
# once. A plain program ends on 15 (SIGTERM), but busybox takes that for a reboot, so it comes last.
SHUTDOWN = ("initctl+signal:38,12", "signal:15")


def module_path() -> Path | None:
    """Return libvirt's LXC module, if it is installed."""
    for pattern in (
        "lib/*/libvirt/connection-driver",
        "lib64/libvirt/connection-driver",
        "lib/libvirt/connection-driver",
    ):
        for folder in sorted(Path("/usr").glob(pattern)):
            if (folder / MODULE).exists():
                return folder / MODULE
    return None


def launcher_plan(folder: Path) -> LauncherPlan:
    """Build the plan for a launcher in ``folder``."""
    config = CONFIG.format(folder=folder)
    module = module_path()
    return LauncherPlan(
        uri=f"lxc+unix:///system?socket={folder}/run/libvirt-sock",
        files={"etc/libvirtd.conf": config, "etc/lxc.conf": 'security_driver = "none"\n'},
        links={f"modules/{MODULE}": str(module)} if module else {},
        daemon=(
            "/usr/sbin/libvirtd",
            f"--config={folder}/etc/libvirtd.conf",
            f"--pid-file={folder}/daemon.pid",
            "--timeout=60",
        ),
        binds=BINDS,
        unmounts=(UNIFIED,),
        environment={"LIBVIRT_DRIVER_DIR": f"{folder}/modules"},
        shutdown=SHUTDOWN,
        privileged=True,
    )
