"""How a launcher reaches LXC: through a libvirt daemon of its own, which loads the LXC driver and no other."""

from __future__ import annotations

from pathlib import Path

from polyvisor.drivers.base import LauncherPlan
from polyvisor.drivers.lxc.mounts import HOOK
from polyvisor.drivers.private_daemon import find_module, packaged_module, private_daemon

DAEMON = Path("/usr/sbin/libvirtd")
MODULE = "libvirt_driver_lxc.so"
# A container's init has no one way to be told "power down": systemd takes 38 (SIGRTMIN+4), busybox 12 (SIGUSR2), each
# ignoring the other. libvirt's initctl is not among them: it opens a path of the container as the node's root, wherever
# a link there leads. A plain program ends on 15 (SIGTERM), but busybox takes that for a reboot, so it comes last.
SHUTDOWN = ("signal:38,12", "signal:15")
FORBIDDEN = (
    *("init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "open_by_handle_at"),
    *("add_key", "request_key", "keyctl", "userfaultfd", "bpf", "perf_event_open", "lookup_dcookie", "syslog"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register", "ioperm", "iopl", "swapon", "swapoff", "acct"),
)
"""Calls that no container needs and libvirt's daemon does without: they reach the whole kernel, or much of its code."""


def module_path() -> Path | None:
    """Return libvirt's LXC module, if it is installed."""
    return find_module(Path("/usr"), MODULE)


def launcher_plan(folder: Path) -> LauncherPlan:
    """Build the plan for a launcher in ``folder``; where libvirt is not installed, for one in a launcher's image."""
    module = module_path() or packaged_module(MODULE)
    return private_daemon(
        folder,
        "lxc",
        DAEMON,
        module,
        ["--timeout=60"],
        files={"etc/lxc.conf": 'security_driver = "none"\n', "etc/hooks/lxc": HOOK},
        shutdown=SHUTDOWN,
        forbidden=FORBIDDEN,
    )
