"""Makes the disk images of one machine: overlays, empty disks, host disks, claims.

What isn't obvious: only an image that came out of the image store may be anything but raw, and there the header is
read here before any other program sees the file. A disk that a guest could write to (host disk, claim) is always raw:
were its format guessed, a guest could write a header that names a file of the host as its backing file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from polyvisor.agent.errors import AgentError, ImageError, UnsafePath, translated
from polyvisor.agent.files import safepath, tools
from polyvisor.agent.images import decoding, examining
from polyvisor.agent.images.examining import RAW, Examined

LAYERED = ("raw", "qcow2")
"""Formats of images that a machine's own layer lies above; others are converted."""
ENDINGS = {"raw": "img"}
"""Names of files end in the format's name, which some hypervisors insist on; but a raw image is an ``img``."""
SECTOR = 512
WHOLE = 1 << 20
"""Raw images are made a multiple of this long: some hypervisors refuse others where the host's cache is bypassed."""
BLKSSZGET, BLKPBSZGET = 0x1268, 0x127B
"""Linux's requests for the logical and the physical block size of a block device (linux/fs.h)."""
MAX_BLOCK = 4096
"""Bytes of a block that guests know; a file system on a network may have larger ones."""
MAX_CAPACITY = 1 << 50
MAX_KERNEL = 1 << 30
MAX_DEPTH = 32
"""Of a host disk's path: those of a namespace are looked through whenever one is made."""


@dataclass(frozen=True)
class DiskFile:
    """A disk image as the domain opens it, or a block device; with its block sizes where the guest is to see those."""

    path: Path
    format: str
    block: bool = False
    logical: int = 0
    physical: int = 0


@dataclass(frozen=True)
class Image:
    """A file that somebody else made: where this process finds it, and where the hypervisor does.

    ``descriptor`` is the file itself, already open, where ``path`` is only a name for it; ``tree`` is the tree of the
    image cache that it lies in, if it lies in one.
    """

    path: Path
    seen_at: Path
    descriptor: int = -1
    tree: str = ""
    block: bool = False

    @classmethod
    def here(cls, path: Path, tree: str = "") -> Image:
        """Return a file that everybody finds at the same place."""
        return cls(path, path, tree=tree)

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Give a descriptor of the file, to be read at offsets."""
        if self.descriptor >= 0:
            yield self.descriptor
            return
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def examined(image: Image, called: str) -> Examined:
    """Return what an image is; refuse what reaches beyond the file itself, is cut off, or is no disk."""
    with image.opened() as descriptor:
        return examining.examine(descriptor, called)


def boot_file(image: Image, called: str, key: str) -> Image:
    """Return a kernel or initrd after a look at it: an empty file, a disk image or a document is refused.

    ``key`` says which of the two it is, ``kernelPath`` or ``initrdPath``; the other one is refused as well.
    """
    with image.opened() as descriptor:
        if what := examining.not_to_boot(descriptor):
            raise ImageError(f"{called} is {what}, not a kernel or initrd", retry=False)
        if what := examining.mistaken(descriptor, key):
            raise ImageError(f"{called} is {what}: see {key} of firmware.kernelBoot.container", retry=False)
        size = os.fstat(descriptor).st_size
    if size > MAX_KERNEL:
        raise ImageError(f"{called} has {size} bytes; a kernel or initrd may have {MAX_KERNEL}", retry=False)
    return image


def size_of(image: Image, format_: str) -> int | None:
    """Return the size of the disk in an image of our own, as a guest sees it; None for formats not read here."""
    with image.opened() as descriptor:
        if format_ == "qcow2":
            head = os.pread(descriptor, 32, 0)
            return int(struct.unpack_from(">Q", head, 24)[0]) if len(head) == 32 else None
        if format_ != RAW:
            return None
        if stat.S_ISBLK(os.fstat(descriptor).st_mode):
            return os.lseek(descriptor, 0, os.SEEK_END)
        return os.fstat(descriptor).st_size


def block_sizes(image: Image) -> tuple[int, int]:
    """Return the logical and the physical block size of a block device, or of the file system that a file is on."""
    with image.opened() as descriptor:
        if image.block:
            found = (fcntl.ioctl(descriptor, request, bytes(4)) for request in (BLKSSZGET, BLKPBSZGET))
            logical, physical = (int.from_bytes(one, sys.byteorder) for one in found)
        else:
            logical = physical = os.fstatvfs(descriptor).f_bsize
    return min(logical, MAX_BLOCK), min(physical, MAX_BLOCK)


def overlay(
    image: Image, folder: Path, name: str, wanted_formats: tuple[str, ...], called: str, has: str = ""
) -> DiskFile:
    """Give a machine its own writable view of a read-only image, or a copy in a format that the hypervisor takes.

    ``has`` is the image's format where that is known and must not be read off the image. An image that no layer can lie
    above is copied, in the format that the hypervisor likes best.
    """
    has = has or examined(image, called).format
    if has in LAYERED and "qcow2" in wanted_formats:
        place = folder / f"{name}.qcow2"
        size = str(capacity(size_of(image, has) or 0, called, SECTOR))
        # -u: the image need not be where qemu-img would find it, and no other program has to read it here
        arguments: list[str | Path] = ["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", has, "-b", image.seen_at]
        tools.run([*arguments, place, size], f"making an overlay on {called}", folder)
        return DiskFile(place, "qcow2")
    wanted = RAW if has in LAYERED and RAW in wanted_formats else wanted_formats[0]
    place = folder / f"{name}.{ENDINGS.get(wanted, wanted)}"
    with translated(folder, f"copying {called}"):
        if has == wanted == RAW:
            with image.opened() as descriptor:
                decoding.own_copy(descriptor, place)
        else:
            converted(image, has, folder / f"{name}.brought", place, wanted, called)
        if wanted == RAW:
            round_up(place)
        place.chmod(0o600)
    return DiskFile(place, wanted)


def converted(image: Image, has: str, copy: Path, place: Path, wanted: str, called: str) -> int:
    """Convert an image by way of a copy that nobody but this process can change; the copy is what is looked at.

    Returns the size of the disk in it, in bytes.
    """
    with image.opened() as descriptor:
        decoding.own_copy(descriptor, copy)
    try:
        if has == RAW:
            size = copy.stat().st_size
        else:
            examined(Image.here(copy), called)
            decoding.check(copy, has, called)
            size = decoding.virtual_size(copy, has, called)
        whole = capacity(size, called, SECTOR)
        decoding.convert(copy, has, place, wanted, whole, called)
        return whole
    finally:
        copy.unlink()


def round_up(place: Path) -> None:
    """Make a raw image of our own a whole number of MiB long."""
    with place.open("r+b") as file:
        os.ftruncate(file.fileno(), -(-os.fstat(file.fileno()).st_size // WHOLE) * WHOLE)


def capacity(size: int | float, what: str, step: int = WHOLE) -> int:
    """Check a capacity and round it up."""
    if not SECTOR <= size <= MAX_CAPACITY:
        raise AgentError(
            f"{what}: a disk of {size} bytes cannot be made; {SECTOR} to {MAX_CAPACITY} (1Pi) bytes are accepted",
            retry=False,
        )
    return -(-int(size) // step) * step


def empty(folder: Path, name: str, size: int, wanted_formats: tuple[str, ...]) -> DiskFile:
    """Make an empty disk that takes room only as it is written."""
    size = capacity(size, f"empty disk {name}")
    best = wanted_formats[0]
    place = folder / f"{name}.{ENDINGS.get(best, best)}"
    if best != "raw":
        tools.run(["qemu-img", "create", "-q", "-f", best, place, str(size)], f"making empty disk {name}", folder)
        return DiskFile(place, best)
    with translated(folder, f"making empty disk {name}"), place.open("xb") as file:
        os.ftruncate(file.fileno(), size)
    place.chmod(0o600)
    return DiskFile(place, "raw")


def create_raw(folder: int, name: str, size: int, where: Path, owner: int | None = None) -> None:
    """Make a sparse raw image in the open folder, whole or not at all; one that is there already stays."""
    stats = os.fstatvfs(folder)
    free = stats.f_bavail * stats.f_frsize
    if free == 0:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(where))
    scratch = f".{name[:100]}.{secrets.token_hex(4)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(scratch, flags, 0o600, dir_fd=folder)
    try:
        os.ftruncate(descriptor, size)
        if owner is not None:
            os.fchown(descriptor, owner, owner)
        os.fsync(descriptor)
        with suppress(FileExistsError):
            os.link(scratch, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    finally:
        os.close(descriptor)
        os.unlink(scratch, dir_fd=folder)


def host_disk(
    root: Path, path: str, kind: str, size: int, owner: int | None = None, limit: int | None = None
) -> DiskFile:
    """Return a disk image below the allowed root; ``DiskOrCreate`` makes it if it is not there, for ``owner``.

    All images below the root may have ``limit`` bytes together, and never more than the file system that they are on.
    """
    relative = path
    if path.startswith("/"):
        prefix = f"{root}/"
        if not path.startswith(prefix):
            raise UnsafePath(f"host disk {path}: only files below {root} are allowed")
        relative = path.removeprefix(prefix)
    try:
        names = safepath.parts(relative)
    except UnsafePath as error:
        raise UnsafePath(f"host disk: {error}") from None
    if not names:
        raise UnsafePath(f"host disk {path}: a file below {root} is needed")
    if len(names) > MAX_DEPTH:
        raise UnsafePath(f"host disk {path[:80]}: {len(names)} folders deep; {MAX_DEPTH} are accepted")
    doing = f"preparing host disk {path}"
    with translated(root, doing):
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with safepath.opened_root(root) as top:
            try:
                _raw_host_disk(safepath.open_file(top, names, os.O_RDWR), path)
            except FileNotFoundError:
                if kind != "DiskOrCreate":
                    raise AgentError(
                        f"host disk {path}: no such file below {root}; create it or use type DiskOrCreate"
                    ) from None
                if size <= 0:
                    raise AgentError(f"host disk {path}: a capacity is needed to create it", retry=False) from None
                wanted = capacity(size, f"host disk {path}")
                _room(top, wanted, limit, path)
                with safepath.walk(top, names[:-1], create=True) as parent:
                    create_raw(parent, names[-1], wanted, root, owner)
                os.close(safepath.open_file(top, names, os.O_RDWR))
    return DiskFile(root.joinpath(*names), "raw")


def _room(root: int, wanted: int, limit: int | None, path: str) -> None:
    """Refuse a host disk with which those of a namespace would be larger than they may be."""
    stats = os.fstatvfs(root)
    there = stats.f_blocks * stats.f_frsize
    most = there if limit is None else min(limit, there)
    used = 0
    for _, _, files, at in os.fwalk(".", dir_fd=root):
        used += sum(os.stat(name, dir_fd=at, follow_symlinks=False).st_size for name in files)
    if used + wanted > most:
        raise AgentError(
            f"host disk {path} of {wanted} bytes: the host disks of a namespace may have {most} bytes on this node, and"
            f" there are {used} already",
            retry=False,
        )


def _raw_host_disk(descriptor: int, path: str) -> None:
    """Refuse an image in another format, which would be attached as it is and overwritten; close it."""
    try:
        format_ = examining.format_of(os.pread(descriptor, examining.HEAD, 0), f"host disk {path}")
    finally:
        os.close(descriptor)
    if format_ != RAW:
        raise AgentError(
            f"host disk {path} is a {format_} image, and host disks are attached as raw, so the guest would overwrite"
            " it; convert it with qemu-img convert -O raw, or import it with a DataVolume",
            retry=False,
        )


def claim_folder(volumes: Path, namespace: str, claim: str) -> Path:
    """Return the folder of a claim, made if it is not there."""
    names = [*safepath.parts(namespace), *safepath.parts(claim)]
    if len(names) != 2:
        raise UnsafePath(f"{namespace}/{claim} is not a valid name of a claim")
    with translated(volumes, f"preparing claim {namespace}/{claim}"):
        volumes.mkdir(mode=0o700, parents=True, exist_ok=True)
        with safepath.opened_root(volumes) as top, safepath.walk(top, names, create=True):
            return volumes.joinpath(*names)


def claim_disk(volumes: Path, namespace: str, claim: str, size: int) -> DiskFile:
    """Return the disk image of a claim, made at the claim's size if it is not there."""
    folder = claim_folder(volumes, namespace, claim)
    with translated(volumes, f"preparing claim {namespace}/{claim}"), safepath.opened_root(volumes) as top:
        try:
            disk = safepath.open_file(top, [namespace, claim, "disk.img"], os.O_RDWR)
            try:  # an earlier version of this program made disks of other lengths
                os.ftruncate(disk, -(-os.fstat(disk).st_size // WHOLE) * WHOLE)
            finally:
                os.close(disk)
        except FileNotFoundError:
            with safepath.walk(top, [namespace, claim]) as at:
                create_raw(at, "disk.img", capacity(size, f"claim {namespace}/{claim}"), volumes)
    return DiskFile(folder / "disk.img", "raw")
