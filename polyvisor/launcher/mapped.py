"""Shows a machine's folders in its user namespace, each file as its own: id-mapped mounts, made as libvirt's hook.

libvirt calls the hook before it starts a domain, in the mount namespace of its daemon, again for each restart. The
domain's XML names ids of this node for those of the guest (``idmap``) and, as metadata, which folder is to be seen at
which place. On disk nothing changes: what the guest's root owns is root's there, so that a folder is the same for
whoever has it next, with whichever ids.

What isn't obvious: the guest's first process looks for its folders when it has lost all rights on this node, so the
folders of libvirt's own on the way are opened to be passed through; they are below the launcher's, which is closed to
others. Run by its path, with the standard library alone.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as Xml

SPACE = "urn:polyvisor:mapped"
MAPPED, SHIFTED = f"{{{SPACE}}}folder", "shifted"
MOMENT = ("prepare", "begin")
OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442
"""Numbers of system calls, the same on all architectures."""
CLONE, EMPTY_PATH, FROM, TO = 1, 0x1000, 0x04, 0x40
NO_DEVICES, BY_IDS = 0x04, 0x00100000
NEW_USER = 0x10000000
DETACH, NO_FOLLOW = 2, 8
PASSED_THROUGH = ("/run/libvirt", "/var/lib/libvirt")
GROUPS = ("machine", "*/machine")
"""libvirt's control groups, which a daemon with a stricter umask may have made."""
_libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """A folder cannot be shown; the text says which and why."""


class Folder(NamedTuple):
    """A folder of the node, where it is to be seen, and whether its files have the guest's ids on disk already."""

    source: str
    place: str
    shifted: bool


def main(arguments: Sequence[str]) -> int:
    """Do what libvirt's hook is called for: NAME OPERATION MOMENT EXTRA, and the domain's XML on standard input."""
    if tuple(arguments[1:3]) != MOMENT:
        return 0
    try:
        prepare(sys.stdin.buffer.read())
    except (Refused, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def prepare(text: bytes) -> None:
    """Show all folders that a domain's XML names."""
    domain = Xml.fromstring(text)
    ids = domain.find("idmap/uid")
    folders = [Folder(one.attrib["source"], one.attrib["place"], SHIFTED in one.attrib) for one in domain.iter(MAPPED)]
    if ids is None or not folders:
        return
    groups = (found for pattern in GROUPS for found in Path("/sys/fs/cgroup").glob(pattern))
    for path in (*map(Path, PASSED_THROUGH), *groups):
        path.chmod(0o711)
    with user_namespace(int(ids.attrib["target"]), int(ids.attrib["count"])) as namespace:
        for folder in folders:
            _show(folder, namespace)


def _show(folder: Folder, namespace: int) -> None:
    place = Path(folder.place)
    place.mkdir(parents=True, exist_ok=True)
    while _libc.umount2(os.fsencode(place), DETACH | NO_FOLLOW) == 0:
        pass  # of the run before
    source = os.open(folder.source, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        tree = mapped(source, None if folder.shifted else namespace, folder.source)
    finally:
        os.close(source)
    try:
        target = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        _checked(_libc.syscall(MOVE_MOUNT, tree, b"", target, b"", FROM | TO), f"showing {folder.source}")
        os.close(target)
    finally:
        os.close(tree)


def mapped(folder: int, namespace: int | None, name: str) -> int:
    """Clone the mount of an open folder, with the ids of a user namespace and without devices; the caller owns it."""
    tree = _checked(_libc.syscall(OPEN_TREE, folder, b"", CLONE | EMPTY_PATH | os.O_CLOEXEC), f"cloning {name}")
    wanted = (ctypes.c_uint64 * 4)(NO_DEVICES | (0 if namespace is None else BY_IDS), 0, 0, namespace or 0)
    if _libc.syscall(MOUNT_SETATTR, tree, b"", EMPTY_PATH, wanted, ctypes.sizeof(wanted)) < 0:
        number = ctypes.get_errno()
        os.close(tree)
        why = "the kernel has no id-mapped mounts" if number == errno.ENOSYS else ""
        if number == errno.EINVAL:
            why = (
                f"its file system or this kernel ({os.uname().release}) has no id-mapped mounts, which containers need"
            )
        raise Refused(f"{name}: {why or os.strerror(number)} (mount_setattr, errno {number})")
    return tree


@contextmanager
def user_namespace(first: int, count: int) -> Iterator[int]:
    """Give a user namespace in which ids from 0 on are those of this node from ``first`` on, as a descriptor."""
    ready, done = os.pipe()
    child = os.fork()
    if child == 0:
        failed = _libc.unshare(NEW_USER) and (ctypes.get_errno() or 255)
        os.write(done, bytes([failed]))
        signal.pause()
    try:
        if number := os.read(ready, 1)[0]:
            raise Refused(f"this kernel makes no user namespace: {os.strerror(number)} (errno {number})")
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{name}").write_text(f"0 {first} {count}\n")
        namespace = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(done)
    try:
        yield namespace
    finally:
        os.close(namespace)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise Refused(f"{what}: {os.strerror(number)} (errno {number})")
    return result


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
