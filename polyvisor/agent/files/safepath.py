"""Paths below a folder that somebody else may write to: nothing opened here can end up outside it.

A path is walked one component at a time with ``dir_fd`` and ``O_NOFOLLOW``, and what is opened is used through its
descriptor. What isn't obvious: the trees of images may hold symbolic links that mean something (``/lib``). These are
resolved here, in user space, as a chroot would (:func:`real_folder`); the kernel never follows one.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from polyvisor.agent.errors import UnsafePath

log = logging.getLogger("polyvisor.files")
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_LINKS = 40
MAX_LISTED = 1000
"""Folders that are looked at together while a tree is removed."""


def parts(path: str) -> list[str]:
    """Split a path that a user gave, refusing what could lead out of its folder."""
    if "\0" in path or any(ord(letter) < 32 for letter in path):
        raise UnsafePath(f"the path {path!r} holds a control character")
    found = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in found:
        raise UnsafePath(f"the path {path!r} holds '..'")
    return found


def _open_component(parent: int, name: str, *, create: bool) -> int:
    try:
        return os.open(name, DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        if not create:
            raise
    with suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=parent)
    return os.open(name, DIRECTORY, dir_fd=parent)


@contextmanager
def walk(root: int, names: list[str], *, create: bool = False) -> Iterator[int]:
    """Open the folder ``names`` below ``root``; a symbolic link on the way is refused."""
    current = os.dup(root)
    try:
        for name in names:
            try:
                following = _open_component(current, name, create=create)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR) and _is_link(current, name):
                    raise UnsafePath(f"{name!r} in {'/'.join(names)!r} is a symbolic link") from error
                raise
            os.close(current)
            current = following
        yield current
    finally:
        os.close(current)


def _is_link(parent: int, name: str) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


@contextmanager
def opened_root(folder: Path, *, create: bool = False) -> Iterator[int]:
    """Open a folder as the root of walks. No link on the way to it is followed; the agent resolves its own at start."""
    top = os.open("/", DIRECTORY)
    try:
        with walk(top, list(folder.absolute().parts[1:]), create=create) as descriptor:
            yield descriptor
    finally:
        os.close(top)


def open_file(root: int, names: list[str], flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """Open a regular file below ``root`` without following any link; the caller owns the descriptor."""
    if not names:
        raise UnsafePath("a path to a file is needed, not the folder itself")
    with walk(root, names[:-1]) as parent:
        try:
            # O_NONBLOCK: opening a FIFO that somebody put there must not hang
            descriptor = os.open(names[-1], flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode, dir_fd=parent)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise UnsafePath(f"{'/'.join(names)!r} is a symbolic link") from error
            raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnsafePath(f"{'/'.join(names)!r} is not a regular file")
    return descriptor


def read_file(folder: Path, name: str, limit: int) -> bytes:
    """Read a regular file of a folder, at most ``limit`` bytes; no link is followed and nothing else waited for."""
    with opened_root(folder) as root, os.fdopen(open_file(root, [name]), "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise UnsafePath(f"{name!r} is larger than {limit} bytes")
    return data


def real_folder(root: int, names: list[str], *, missing_ok: bool = False) -> list[str]:
    """Return the link-free path of a folder below ``root``, resolving links inside it as a chroot would."""
    done: list[str] = []
    todo = list(reversed(names))
    followed = 0
    while todo:
        name = todo.pop()
        if name in ("", "."):
            continue
        if name == "..":  # only out of a link's target; a chroot's root is its own parent
            done = done[:-1]
            continue
        with walk(root, done) as parent:
            try:
                info = os.stat(name, dir_fd=parent, follow_symlinks=False)
            except FileNotFoundError:
                if missing_ok and ".." not in todo:
                    return [*done, name, *(part for part in reversed(todo) if part not in ("", "."))]
                raise
            if stat.S_ISDIR(info.st_mode):
                done.append(name)
                continue
            if not stat.S_ISLNK(info.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, "not a folder", name)
            followed += 1
            if followed > MAX_LINKS:
                raise UnsafePath(f"too many symbolic links in {'/'.join(names)!r}")
            target = os.readlink(name, dir_fd=parent)
        if target.startswith("/"):
            done = []
        todo.extend(reversed(target.split("/")))
    return done


def real_file(root: int, names: list[str]) -> list[str]:
    """Return the link-free path of a regular file, resolving links inside ``root`` as a chroot would."""
    for _ in range(MAX_LINKS):
        if not names:
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        folder = real_folder(root, names[:-1])
        with walk(root, folder) as parent:
            info = os.stat(names[-1], dir_fd=parent, follow_symlinks=False)
            if stat.S_ISREG(info.st_mode):
                return [*folder, names[-1]]
            if not stat.S_ISLNK(info.st_mode):
                raise IsADirectoryError(errno.EISDIR, "not a regular file", "/".join(names))
            target = os.readlink(names[-1], dir_fd=parent)
        head = [] if target.startswith("/") else folder
        *middle, last = [part for part in target.split("/") if part not in ("", ".")] or [".."]
        if last == "..":
            raise IsADirectoryError(errno.EISDIR, "not a regular file", "/".join(names))
        names = [*real_folder(root, [*head, *middle]), last]
    raise UnsafePath(f"too many symbolic links in {'/'.join(names)!r}")


def remove(parent: int, name: str) -> None:
    """Remove a file, link or whole folder; never what a link points at. Missing is fine.

    However deep a folder is, this takes three descriptors and no recursion: folders in a folder are moved up first.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=parent)
            return
        with _to_empty(parent, name) as top:
            while folders := _without_files(top):
                for folder in folders:
                    with suppress(FileNotFoundError):
                        _move_up(top, folder)
        os.rmdir(name, dir_fd=parent)


@contextmanager
def _to_empty(parent: int, name: str) -> Iterator[int]:
    """Open a folder whose content is to go; one of our own that forbids it is allowed to."""
    with walk(parent, [name]) as folder:
        with suppress(PermissionError):
            os.fchmod(folder, 0o700)
        yield folder


def _without_files(folder: int) -> list[str]:
    """Remove what is not a folder, and return some of what is left."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                found.append(entry.name)
            else:
                with suppress(FileNotFoundError):
                    os.unlink(entry.name, dir_fd=folder)
            if len(found) == MAX_LISTED:
                break
    return found


def _move_up(top: int, name: str) -> None:
    """Remove a folder in ``top``, having moved the folders in it there."""
    with _to_empty(top, name) as folder:
        while inner := _without_files(folder):
            for each in inner:
                with _to_empty(folder, each):
                    os.rename(each, f".{secrets.token_hex(12)}", src_dir_fd=folder, dst_dir_fd=top)
    os.rmdir(name, dir_fd=top)


def remove_path(path: Path) -> None:
    """Remove ``path`` and all below it; missing is fine."""
    with suppress(FileNotFoundError), opened_root(path.parent) as parent:
        remove(parent, path.name)


def sweep_path(path: Path) -> None:
    """Remove what an interrupted run left; what cannot be removed takes room, is logged, and holds nothing up."""
    try:
        remove_path(path)
    except (OSError, UnsafePath) as error:
        log.error("%s, which an interrupted run left, cannot be removed: %s; remove it by hand", path, error)


def write_atomic(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace a file of our own in one step, on disk before it is seen."""
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    with opened_root(path.parent) as folder:
        os.fsync(folder)


def put(folder: int, name: str, data: bytes) -> None:
    """Write a file into a folder that somebody else may write to, unless there is something by that name."""
    scratch = f".{name}.{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(scratch, flags, 0o644, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(data)
        with suppress(FileExistsError):
            os.link(scratch, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    finally:
        os.unlink(scratch, dir_fd=folder)
