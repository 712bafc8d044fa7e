"""The initramfs of a host: busybox, the few modules that its disk and shared folder need, and a script.

Debian's own would load udev and search for disks, which costs an emulated machine ten seconds. Which modules belong
together is read from the modules themselves.
"""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Mapping
from pathlib import Path

from tests import kept  # makes the tools importable  # noqa: F401

import guest_images  # isort: skip
from oci_layout import Entry, Tree  # isort: skip

INSIDE = Path(__file__).with_name("inside")
MODULES = (
    "virtio_pci", "virtio_blk", "crc32c_generic", "ext4", "9pnet_virtio", "9p", "virtio_net", "af_packet",
)  # fmt: skip
"""What the script loads, each after those that it depends on; ext4 asks for crc32c while it mounts."""


def read_modules(folder: Path) -> dict[str, bytes]:
    """Return name -> content of the kernel modules below a folder, with underscores in the names."""
    found = {}
    for path in folder.rglob("*.ko*"):
        name, _, ending = path.name.partition(".ko")
        data = path.read_bytes()
        found[name.replace("-", "_")] = lzma.decompress(data) if ending == ".xz" else data
    return found


def make(modules: Mapping[str, bytes], busybox: bytes) -> bytes:
    """Return the compressed initramfs."""
    order = guest_images.load_order(modules, list(MODULES))
    tree: Tree = guest_images.userland(busybox)
    tree |= {f"lib/modules/{name}.ko": Entry(0o644, modules[name]) for name in order}
    tree["etc/modules"] = guest_images.text(*(f"/lib/modules/{name}.ko" for name in order))
    tree["init"] = Entry(0o755, (INSIDE / "initramfs-init").read_bytes())
    tree["dev/console"] = Entry(0o020600)
    return gzip.compress(guest_images.cpio(tree), compresslevel=1, mtime=0)
