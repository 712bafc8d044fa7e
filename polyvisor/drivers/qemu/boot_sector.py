"""A guest of our own that needs no kernel: a boot sector that takes a 64-bit kernel's steps and tells each.

It is assembled from ``boot_sector.S``. Under a KVM that runs only kernels made for it (kvm_pvm, as some clouds have it)
it stops before "user mode", and a Linux kernel gets nowhere either; firmware alone, which such a KVM runs, proves less.
"""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import quoteattr

MACHINE = "x86_64"
"""The architecture whose code it is."""
STEPS = ("real mode", "protected mode", "long mode", "exceptions", "user mode", "timer", "works")
DONE = b"boot sector: works"
DISK_BYTES = 1024 * 1024
"""The firmware reads no disk that is smaller than a cylinder."""
_CODE = Path(__file__).with_name("boot_sector.bin").read_bytes()
"""Read at once: a probe in a launcher's image does not see this package's files."""


def write_disk(path: Path) -> Path:
    """Make a disk image that begins with the boot sector."""
    with path.open("wb") as image:
        image.write(_CODE)
        image.truncate(DISK_BYTES)
    return path


def disk_xml(path: Path) -> str:
    """Return the libvirt device of the disk."""
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file={quoteattr(str(path))}/>"
        "<target dev='vda' bus='virtio'/><readonly/></disk>"
    )


def stopped(console: bytes) -> str:
    """Say how far it came, by what it wrote on its console."""
    made = [step for step in STEPS if f"boot sector: {step}\n".encode() in console.replace(b"\r", b"")]
    return f"the boot sector stopped after {made[-1]!r}" if made else "the firmware did not start the boot sector"
