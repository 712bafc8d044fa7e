"""How a launcher reaches QEMU: libvirt's driver runs inside the launcher, with its files in the launcher's folder.

No daemon at all. libvirt's answer to "what can this QEMU do" costs seconds when asked for the first time, so launchers
begin with a copy of the answer that the probe left behind.
"""

from __future__ import annotations

import os
from pathlib import Path

from polyvisor.drivers.base import LauncherPlan

CACHE = "root/cache/qemu/capabilities"
QEMU_CONF = """\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
"""

FORWARD = {
    "open": "hostfwd_add host{alias} tcp:127.0.0.1:{local}-:{port}",
    "list": "info usernet",
    "accepted": r"TCP\[(?!HOST_FORWARD)\w+\]\s+\d+\s+127\.0\.0\.1\s+{local}\s",
    "close": "hostfwd_remove host{alias} tcp:127.0.0.1:{local}",
}


def warm_cache(scratch: Path) -> Path:
    """Return where the probe keeps libvirt's capabilities cache for the launchers of this node."""
    return scratch / "qemu-capabilities"


def launcher_plan(folder: Path, scratch: Path | None) -> LauncherPlan:
    """Build the plan for a launcher in ``folder``."""
    return LauncherPlan(
        uri=f"qemu:///embed?root={folder}/root",
        files={"root/etc/qemu.conf": QEMU_CONF},
        seeds={CACHE: os.fspath(warm_cache(scratch))} if scratch else {},
        start_paused=True,
        shutdown=("acpi",),
        forward=FORWARD,
        devices=("/dev/kvm",),
    )
