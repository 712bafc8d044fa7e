"""Looks at disk images that others made, with code of our own that reads and never follows what it reads.

Formats of disk images can name other files (a backing file, a data file, extents, a parent), hold several disks
(snapshots) or declare sizes that nothing backs. Programs that decode images follow such names with the rights that they
run with. So an image is taken only if it is one disk, whole, in one file: :func:`examine` refuses the rest before
any other program sees it, and reads no more than tables, each once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from polyvisor.agent.errors import ImageError
from polyvisor.agent.images.examining import content, qcow2, vdi, vhd, vhdx, vmdk
from polyvisor.agent.images.examining.reading import MAX_VIRTUAL, Reading, Unfit

RAW = "raw"
HEAD = 512
"""Bytes by which a format is told."""
WANTED = "bring it as qcow2, raw, vmdk, vdi or vhdx"
FLATTEN = "flatten it with qemu-img convert"
MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"QFI\xfb", "qcow2"),
    (0, b"KDMV", "vmdk"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vpc"),
    (64, b"\x7f\x10\xda\xbe", "vdi"),
)
"""Where in a file stands what, and the format that this is, by qemu-img's name."""
REFUSED = (
    (b"COWD", "an old VMDK image"),
    (b"QED\0", "a QED image"),
    (b"# Disk DescriptorFile", "a VMDK description, which names its data in other files"),
)
LINUX, LINUX_MAGIC = 0x202, b"HdrS"
"""Where a Linux kernel for x86 says that it is one (https://docs.kernel.org/arch/x86/boot.html)."""
CPIO = (b"070701", b"070702", b"070707")
EMPTY = "an empty file"
_EXAMINERS: Mapping[str, Callable[[Reading], int]] = {
    "qcow2": qcow2.size_of,
    "vmdk": vmdk.size_of,
    "vhdx": vhdx.size_of,
    "vpc": vhd.size_of,
    "vdi": vdi.size_of,
}


@dataclass(frozen=True)
class Examined:
    """What an image is: its format by qemu-img's name, the size of the disk in it in bytes, and what it seems to hold.

    ``holds`` is empty where a raw image shows neither a boot sector nor a file system that is known here.
    """

    format: str
    size: int
    holds: str = ""


def format_of(head: bytes, called: str) -> str:
    """Return the format of an image by its first bytes; what has no mark is raw."""
    for magic, what in REFUSED:
        if head.startswith(magic):
            raise ImageError(f"{called} is {what}; {WANTED}", retry=False)
    return next((name for offset, magic, name in MAGIC if head[offset : offset + len(magic)] == magic), RAW)


def examine(descriptor: int, called: str) -> Examined:
    """Return what an open image is; refuse one that is not a whole disk in a single file."""
    image = Reading(descriptor)
    head = image.head(HEAD)
    if not head:
        raise ImageError(f"{called} is {EMPTY}, not a disk image", retry=False)
    format_ = format_of(head, called)
    if format_ == RAW:
        if what := content.not_a_disk(image):
            raise ImageError(f"{called} is {what}, not a disk image; {WANTED}", retry=False)
        return Examined(RAW, image.length, content.held(image))
    try:
        size = _EXAMINERS[format_](image)
        if not 0 < size <= MAX_VIRTUAL:
            raise Unfit(f"it declares a disk of {size} bytes; up to {MAX_VIRTUAL} are accepted")
    except Unfit as error:
        raise ImageError(f"{called}, a {format_} image, is refused: {error}", retry=False) from None
    return Examined(format_, size, f"a {format_} image")


def mistaken(descriptor: int, key: str) -> str:
    """Return what a file is instead if it is the kernel where ``key`` (of ``kernelBoot``) wants an initrd, or a cpio
    archive where it wants a kernel."""
    head = Reading(descriptor).head(LINUX + len(LINUX_MAGIC))
    if key == "initrdPath" and head[LINUX:] == LINUX_MAGIC:
        return "a Linux kernel, not an initrd"
    return "an initrd, not a kernel" if key == "kernelPath" and head.startswith(CPIO) else ""


def not_to_boot(descriptor: int) -> str:
    """Return what a file is that is certainly neither a kernel nor an initrd; empty if it may be one."""
    image = Reading(descriptor)
    head = image.head(HEAD)
    if not head:
        return EMPTY
    for offset, magic, name in MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return f"a {name} image"
    return next((what for magic, what in REFUSED if head.startswith(magic)), "") or content.document(image)
