"""A libvirt daemon of a launcher's own, which loads one driver: for drivers that cannot be embedded.

libvirt keeps its files at fixed places, so the daemon lives in a mount namespace in which those places are folders of
the launcher. There the unified hierarchy of a hybrid cgroup layout is taken away: libvirt 9.0 tries to use it beside
the v1 controllers and fails.
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polyvisor.drivers.base import LauncherPlan

UNIFIED = "/sys/fs/cgroup/unified"
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
MODULES = ("lib/*/libvirt/connection-driver", "lib*/libvirt/connection-driver")
TRIPLET = sysconfig.get_config_var("MULTIARCH") or ""


def module_folders(prefix: Path) -> tuple[str, ...]:
    """Return where libvirt's drivers are or may come to be below ``prefix``."""
    return tuple(str(prefix / lib / "libvirt/connection-driver") for lib in (f"lib/{TRIPLET}", "lib64"))


def find_module(prefix: Path, name: str) -> Path | None:
    """Return the driver of that file name that is installed below ``prefix`` (``/usr``), if there is one."""
    folders = (folder for pattern in MODULES for folder in sorted(prefix.glob(pattern)))
    return next((folder / name for folder in folders if (folder / name).exists()), None)


def packaged_module(name: str) -> Path:
    """Return where Debian's packages, of which launcher images are made, have a driver of libvirt's."""
    return Path("/usr/lib", TRIPLET or f"{os.uname().machine}-linux-gnu", "libvirt/connection-driver", name)


def private_daemon(
    folder: Path, scheme: str, daemon: Path, module: Path, arguments: Sequence[str] = (), **more: Any
) -> LauncherPlan:
    """Build the plan for a launcher in ``folder`` whose ``daemon`` loads ``module`` alone, reached by ``scheme``.

    ``arguments`` are more of the daemon's, ``more`` further fields of the plan; its files are put beside the daemon's.
    """
    socket = "libvirt-sock" if daemon.name == "libvirtd" else f"{daemon.name}-sock"
    return LauncherPlan(
        uri=f"{scheme}+unix:///system?socket={folder}/run/{socket}",
        files={"etc/daemon.conf": CONFIG.format(folder=folder), **more.pop("files", {})},
        links={f"modules/{module.name}": str(module)},
        daemon=(str(daemon), f"--config={folder}/etc/daemon.conf", f"--pid-file={folder}/daemon.pid", *arguments),
        binds=BINDS,
        unmounts=(UNIFIED,),
        environment={"LIBVIRT_DRIVER_DIR": f"{folder}/modules"},
        privileged=True,
        **more,
    )
