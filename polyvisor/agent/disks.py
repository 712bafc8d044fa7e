"""Makes the disk images of one machine: overlays, empty disks, host disks, claims.

What isn't obvious: only an image that came out of the image store may be anything but raw, and there the header is
read here before any other program sees the file. A disk that a guest could write to (host disk, claim) is always raw:
were its format guessed, a guest could write a header that names a file of the host as its backing file.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from polyvisor.agent import formats, safepath, tools
from polyvisor.agent.errors import AgentError, ImageError, UnsafePath, translated

QCOW2 = b"QFI\xfb"
EXTERNAL_DATA = 1 << 2
PACKED = {
    b"\x1f\x8b": "a gzip archive",
    b"\xfd7zXZ": "an xz archive",
}
LAYERED = ("raw", "qcow2")
"""Formats of images that a machine's own layer lies above; others are converted."""
ENDINGS = {"raw": "img"}
"""Names of files end in the format's name, which some hypervisors insist on; but a raw image is an ``img``."""
MIN_CAPACITY = 512
MAX_CAPACITY = 1 << 50


@dataclass(frozen=True)
class DiskFile:
    """A disk image as the domain opens it, or a block device."""

    path: Path
    format: str
    block: bool = False


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


def image_format(image: Image, called: str) -> str:
    """Tell the format by the header, and refuse what reaches beyond the file itself."""
    with image.opened() as descriptor:
        head = os.pread(descriptor, formats.HEAD, 0)
    if not head:
        raise ImageError(f"{called} is an empty file, not a disk image", retry=False)
    for magic, name in PACKED.items():
        if head.startswith(magic):
            raise ImageError(f"{called} is {name}; bring it as qcow2, raw, vmdk, vdi or vhdx", retry=False)
    if not head.startswith(QCOW2):
        return formats.format_of(head, called)
    if len(head) < 72:
        raise ImageError(f"{called} is a damaged qcow2 image: its header is cut off", retry=False)
    version, backing = struct.unpack_from(">IQ", head, 4)
    if version not in (2, 3):
        raise ImageError(f"{called} is a qcow image of version {version}; 2 and 3 are supported", retry=False)
    incompatible = struct.unpack_from(">Q", head, 72)[0] if version == 3 and len(head) >= 80 else 0
    if backing:
        raise ImageError(f"{called} is refused: it names a backing file; flatten it with qemu-img convert", retry=False)
    if incompatible & EXTERNAL_DATA:
        raise ImageError(f"{called} is refused: its data is in another file; flatten it with qemu-img", retry=False)
    return "qcow2"


def size_of(image: Image, format_: str) -> int | None:
    """Return the size of the disk in an image, as a guest sees it; None for formats that are not read here."""
    with image.opened() as descriptor:
        if format_ == "qcow2":
            head = os.pread(descriptor, 32, 0)
            return int(struct.unpack_from(">Q", head, 24)[0]) if head.startswith(QCOW2) and len(head) == 32 else None
        if format_ != "raw":
            return None
        if stat.S_ISBLK(os.fstat(descriptor).st_mode):
            return os.lseek(descriptor, 0, os.SEEK_END)
        return os.fstat(descriptor).st_size


def overlay(
    image: Image, folder: Path, name: str, wanted_formats: tuple[str, ...], called: str, has: str = ""
) -> DiskFile:
    """Give a machine its own writable view of a read-only image, or a copy in a format that the hypervisor takes.

    ``has`` is the image's format where that is known and must not be read off the image. An image that no layer can lie
    above is copied, in the format that the hypervisor likes best.
    """
    has = has or image_format(image, called)
    inside = None if has in LAYERED else formats.size_inside(image.path, has, called)
    if inside is not None:
        capacity(inside, called)
    elif "qcow2" in wanted_formats:
        place = folder / f"{name}.qcow2"
        size = str(capacity(size_of(image, has) or 0, called))
        # -u: the image need not be where qemu-img would find it, and no other program has to read it here
        arguments: list[str | Path] = ["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", has, "-b", image.seen_at]
        tools.run([*arguments, place, size], f"making an overlay on {called}", folder)
        return DiskFile(place, "qcow2")
    wanted = wanted_formats[0] if inside is not None or "raw" not in wanted_formats else "raw"
    place = folder / f"{name}.{ENDINGS.get(wanted, wanted)}"
    source = image.path
    if has == wanted:
        tools.run(["cp", "-L", "--sparse=always", "--reflink=auto", "--", source, place], f"copying {called}", folder)
    else:
        command: list[str | Path] = ["qemu-img", "convert", "-q", "-f", has, "-O", wanted, source, place]
        tools.run(command, f"converting {called}", folder)
    place.chmod(0o600)
    return DiskFile(place, wanted)


def capacity(size: int | float, what: str) -> int:
    """Check a capacity and round it up to whole sectors."""
    if not MIN_CAPACITY <= size <= MAX_CAPACITY:
        raise AgentError(f"{what}: a capacity of {size} bytes cannot be made", retry=False)
    return -(-int(size) // 512) * 512


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


def host_disk(root: Path, path: str, kind: str, size: int, owner: int | None = None) -> DiskFile:
    """Return a disk image below the allowed root; ``DiskOrCreate`` makes it if it is not there, for ``owner``."""
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
    doing = f"preparing host disk {path}"
    with translated(root, doing):
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with safepath.opened_root(root) as top:
            try:
                os.close(safepath.open_file(top, names, os.O_RDWR))
            except FileNotFoundError:
                if kind != "DiskOrCreate":
                    raise AgentError(
                        f"host disk {path}: no such file below {root}; create it or use type DiskOrCreate"
                    ) from None
                if size <= 0:
                    raise AgentError(f"host disk {path}: a capacity is needed to create it", retry=False) from None
                with safepath.walk(top, names[:-1], create=True) as parent:
                    create_raw(parent, names[-1], capacity(size, f"host disk {path}"), root, owner)
                os.close(safepath.open_file(top, names, os.O_RDWR))
    return DiskFile(root.joinpath(*names), "raw")


def claim_folder(volumes: Path, namespace: str, claim: str) -> Path:
    """Return the folder of a claim, made if it is not there."""
    names = [*safepath.parts(namespace), *safepath.parts(claim)]
    if len(names) != 2:
        raise UnsafePath(f"{namespace}/{claim} is no name of a claim")
    with translated(volumes, f"preparing claim {namespace}/{claim}"):
        volumes.mkdir(mode=0o700, parents=True, exist_ok=True)
        with safepath.opened_root(volumes) as top, safepath.walk(top, names, create=True):
            return volumes.joinpath(*names)


def claim_disk(volumes: Path, namespace: str, claim: str, size: int) -> DiskFile:
    """Return the disk image of a claim, made at the claim's size if it is not there."""
    folder = claim_folder(volumes, namespace, claim)
    with translated(volumes, f"preparing claim {namespace}/{claim}"), safepath.opened_root(volumes) as top:
        try:
            os.close(safepath.open_file(top, [namespace, claim, "disk.img"], os.O_RDWR))
        except FileNotFoundError:
            with safepath.walk(top, [namespace, claim]) as at:
                create_raw(at, "disk.img", capacity(size, f"claim {namespace}/{claim}"), volumes)
    return DiskFile(folder / "disk.img", "raw")
