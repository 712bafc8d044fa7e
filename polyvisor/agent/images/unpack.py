"""Unpacks the layers of an image into a folder that nobody else can reach yet, without leaving it.

Layers are hostile input: names with ``..``, links out of the tree, entries below links, device nodes of the host's
disks. Each name is resolved inside the tree by :mod:`polyvisor.agent.files.safepath` and made with ``dir_fd``; what an
image has no business to bring is refused with its name, not skipped. What isn't obvious: the modes of folders are set
at the very end, else a folder without write permission could not be filled by a user who isn't root. And what is
remembered of entries is a tree of names as the image is: paths in full would take the square of its depth.
"""

from __future__ import annotations

import os
import stat
import tarfile
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO

from polyvisor.agent.errors import ImageError, UnsafePath
from polyvisor.agent.files import safepath
from polyvisor.agent.files.sparse import only_zeros

CHUNK = 1024 * 1024
WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
HARMLESS_DEVICES = {(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)}  # null zero full random tty ...
MAX_ENTRIES = 1_000_000
"""Entries of all layers together, and the folders that they name on their way."""
MAX_DEPTH = 128
MAX_BYTES = 1 << 42
"""Bytes of all files together, holes included."""


@dataclass(slots=True)
class _Node:
    """What is remembered of an entry: the layer that brought it, its mode if it is a folder, and what is in it."""

    layer: int = 0
    mode: int = -1
    inside: dict[str, _Node] = field(default_factory=dict)


class Unpacker:
    """Unpacks layer after layer into the tree whose root folder is open as ``root``, ``most`` bytes in all."""

    def __init__(self, root: int, *, privileged: bool | None = None, most: int = MAX_BYTES) -> None:
        self._root = root
        self._privileged = os.geteuid() == 0 if privileged is None else privileged
        self._top = _Node()
        self._layer = 0
        self._entries = 0
        self._bytes = 0
        self._most = most

    def layer(self, content: BinaryIO, name: str) -> None:
        """Unpack one layer, given as an uncompressed tar."""
        self._layer += 1
        try:
            with tarfile.open(fileobj=content, mode="r|") as archive:
                for member in archive:
                    self._count(member)
                    self._entry(archive, member)
                    archive.members.clear()  # type: ignore[attr-defined]  # it keeps all that it has read
        except tarfile.TarError as error:
            raise ImageError(f"layer {name} is not a readable tar archive: {error}") from error
        except UnsafePath as error:
            raise ImageError(f"layer {name} is refused: {error}", retry=False) from error

    def finish(self) -> None:
        """Give folders the modes that the image wants."""
        self._set_modes(self._root, self._top)

    def _set_modes(self, parent: int, node: _Node) -> None:
        """Set the mode of an open folder after those of the folders in it, which are no deeper than ``MAX_DEPTH``."""
        for name, inner in node.inside.items():
            if inner.mode < 0 and not inner.inside:
                continue
            with (
                suppress(FileNotFoundError, NotADirectoryError, UnsafePath),
                safepath.walk(parent, [name]) as at,
            ):
                self._set_modes(at, inner)
        if node.mode >= 0:
            os.fchmod(parent, node.mode if self._privileged else node.mode | 0o700)

    def _count(self, member: tarfile.TarInfo) -> None:
        self._entries += 1
        self._bytes += max(0, member.size)
        if self._entries > MAX_ENTRIES:
            raise ImageError(f"the image has more than {MAX_ENTRIES} entries", retry=False)
        if self._bytes > self._most:
            raise ImageError(f"the image's files have more than {self._most} bytes together", retry=False)

    def _remember(self, path: tuple[str, ...]) -> _Node:
        node = self._top
        for name in path:
            if (inner := node.inside.get(name)) is None:
                self._entries += 1
                inner = node.inside[name] = _Node()
            inner.layer = self._layer
            node = inner
        return node

    def _entry(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        names = safepath.parts(member.name)
        if not names:  # the root folder itself
            if member.isdir():
                self._top.mode = member.mode & 0o7777
            return
        if len(names) > MAX_DEPTH:
            raise UnsafePath(f"{member.name[:80]!r} lies {len(names)} folders deep; {MAX_DEPTH} are accepted")
        folder = safepath.real_folder(self._root, names[:-1], missing_ok=True)
        if len(folder) >= MAX_DEPTH:
            raise UnsafePath(f"{member.name[:80]!r} leads {len(folder)} folders deep; {MAX_DEPTH} are accepted")
        name = names[-1]
        path = (*folder, name)
        if name == OPAQUE:
            self._make_opaque(folder)
            return
        if name.startswith(WHITEOUT):
            self._white_out(folder, name.removeprefix(WHITEOUT))
            return
        with safepath.walk(self._root, folder, create=True) as parent:
            self._make_room(parent, name, member)
            self._make(archive, member, parent, name)
        self._remember(path).mode = member.mode & 0o7777 if member.isdir() else -1

    def _white_out(self, folder: list[str], name: str) -> None:
        if name in ("", ".", ".."):
            raise UnsafePath(f"the whiteout {WHITEOUT + name!r} names no entry")
        with suppress(FileNotFoundError), safepath.walk(self._root, folder) as parent:
            safepath.remove(parent, name)

    def _make_opaque(self, folder: list[str]) -> None:
        """Remove what lower layers left in a folder, but nothing that this layer has already brought."""
        node: _Node | None = self._top
        for name in folder:
            node = node.inside.get(name) if node is not None else None
        with suppress(FileNotFoundError), safepath.walk(self._root, folder) as at:
            self._clear(at, node or _Node())

    def _clear(self, folder: int, node: _Node) -> None:
        for name in os.listdir(folder):
            inner = node.inside.get(name)
            if inner is None or inner.layer != self._layer:
                safepath.remove(folder, name)
            elif stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                with safepath.walk(folder, [name]) as at:
                    self._clear(at, inner)

    def _make_room(self, parent: int, name: str, member: tarfile.TarInfo) -> None:
        with suppress(FileNotFoundError):
            is_folder = stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
            if not (is_folder and member.isdir()):
                safepath.remove(parent, name)

    def _make(self, archive: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
        if member.islnk():
            self._link(member, parent, name)
            return
        if member.issym():
            os.symlink(member.linkname, name, dir_fd=parent)
        elif member.isdir():
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=parent)
        elif member.isfile():
            self._file(archive, member, parent, name)
            return
        elif member.isfifo():
            os.mkfifo(name, member.mode & 0o777, dir_fd=parent)
        elif member.ischr() and (member.devmajor, member.devminor) in HARMLESS_DEVICES:
            if not self._privileged:
                return
            device = os.makedev(member.devmajor, member.devminor)
            os.mknod(name, stat.S_IFCHR | member.mode & 0o777, device, dir_fd=parent)
            os.chmod(name, member.mode & 0o777, dir_fd=parent)  # made just now, in a tree that is ours alone
        else:
            raise UnsafePath(
                f"{member.name!r} is a device node or special file ({member.devmajor}:{member.devminor}), "
                "which an image may not bring"
            )
        if self._privileged:
            os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)

    def _link(self, member: tarfile.TarInfo, parent: int, name: str) -> None:
        target = safepath.parts(member.linkname)
        if not target:
            raise UnsafePath(f"{member.name!r} is a hard link to nothing")
        try:
            with safepath.walk(self._root, safepath.real_folder(self._root, target[:-1])) as source:
                if stat.S_ISDIR(os.stat(target[-1], dir_fd=source, follow_symlinks=False).st_mode):
                    raise UnsafePath(f"{member.name!r} is a hard link to a folder")
                os.link(target[-1], name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            raise UnsafePath(f"{member.name!r} is a hard link to {member.linkname!r}, which is not there") from None

    def _file(self, archive: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
        source = archive.extractfile(member)
        if source is None:
            raise UnsafePath(f"{member.name!r} has no content")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, 0o600, dir_fd=parent), "wb") as file:
            end = 0
            while chunk := source.read(CHUNK):
                end += len(chunk)
                if only_zeros(chunk):  # keep disk images sparse
                    file.seek(end)
                else:
                    file.write(chunk)
            file.flush()
            os.ftruncate(file.fileno(), end)
            if self._privileged:
                os.fchown(file.fileno(), member.uid, member.gid)
            os.fchmod(file.fileno(), member.mode & 0o7777 | (0 if self._privileged else 0o400))
            os.utime(file.fileno(), (member.mtime, member.mtime))
            if self._privileged and (capability := member.pax_headers.get("SCHILY.xattr.security.capability")):
                with suppress(OSError):  # a file system without them
                    os.setxattr(file.fileno(), "security.capability", capability.encode("utf-8", "surrogateescape"))
