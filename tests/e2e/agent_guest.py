"""A guest with the real guest agent in it: the demo's kernel and initramfs, with Debian's program laid over them.

The kernel unpacks initramfs archives one after the other, so the agent comes as a second one behind the demo's own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tools"))
import guest_images  # noqa: E402
from oci_layout import Entry, Layout  # noqa: E402

from polyvisor.agent.images.store import ImageStore  # noqa: E402
from tests.needs import need  # noqa: E402

IMAGE = "localhost/polyvisor/agent-kernel:1"
DEMO = "localhost/polyvisor/demo-kernel:1"
PROGRAM = "/usr/sbin/qemu-ga"
RELEASE = """\
ID=demo
NAME="Polyvisor Demo"
PRETTY_NAME="Polyvisor Demo 1 (agent)"
VERSION="1 (agent)"
VERSION_ID=1
"""
INITTAB = """\
::sysinit:/etc/rcS
::respawn:/etc/console-login
::respawn:/etc/agent
::ctrlaltdel:/bin/poweroff
::shutdown:/bin/echo polyvisor-demo: shutting down
"""
CHPASSWD = """\
#!/bin/sh
# busybox has no such program; this one keeps what the agent has it set
cat >/run/passwords
"""
AGENT = """\
#!/bin/sh
for port in /sys/class/virtio-ports/*; do
    [ "$(cat "$port/name")" = org.qemu.guest_agent.0 ] \\
        && exec /usr/sbin/qemu-ga -m virtio-serial -p "/dev/${port##*/}" -t /run -f /run/agent.pid >/dev/null 2>&1
done
sleep 1
"""


def add_image(images: Path) -> None:
    """Put the image into a store that has the demo's images."""
    need(PROGRAM)
    cache = images.parent / "agent-guest"
    store = ImageStore(images, cache)
    kernel = store.file(DEMO, "/boot/vmlinuz").read_bytes()
    initrd = store.file(DEMO, "/boot/initrd.img").read_bytes()
    tree = {
        PROGRAM.removeprefix("/"): Entry(0o755, Path(PROGRAM).read_bytes()),
        "etc/inittab": Entry(0o644, INITTAB.encode()),
        "sbin/chpasswd": Entry(0o755, CHPASSWD.encode()),
        "etc/agent": Entry(0o755, AGENT.encode()),
        "etc/os-release": Entry(0o644, RELEASE.encode()),
    }
    linked = subprocess.run(["ldd", PROGRAM], capture_output=True, text=True, check=True).stdout
    for path in re.findall(r"(?:=> )?(/\S+) \(0x", linked):
        tree[path.removeprefix("/")] = Entry(0o755, Path(path).read_bytes())
    boot = {
        "boot/vmlinuz": Entry(0o644, kernel),
        "boot/initrd.img": Entry(0o644, initrd + b"\0" * (-len(initrd) % 4) + guest_images.cpio(tree)),
    }
    layout = Layout(images)
    layout.name({IMAGE: layout.image(boot, "test")}, "test")
    shutil.rmtree(cache, ignore_errors=True)
