"""Shows a machine's folders in its user namespace, each file as its own: id-mapped mounts, made as libvirt's hook.

libvirt calls the hook before it starts a domain, in the mount namespace of its daemon, again for each restart. The
domain's XML names ids of this node for those of the guest (``idmap``) and, as metadata, which folder is to be seen at
which place. On disk nothing changes: what the guest's root owns is root's there, so that a folder is the same for
whoever has it next, with whichever ids.

What isn't obvious: the guest's first process looks for its folders when it has lost all rights on this node, so the
folders of libvirt's own on the way are opened to be passed through; they are below the launcher's, which is closed to
others. Run by its path, with the standard library alone; and a start waits for it, so it loads no more of that than it
needs.
"""
# pathlib takes longer to load than all else that is done here:
# ruff: noqa: PTH101, PTH103, PTH112, PTH123, PTH208

from __future__ import annotations

import ctypes
import errno
import os
import sys
from xml.parsers import expat

SPACE = "urn:polyvisor:mapped"
MAPPED, SHIFTED = f"{{{SPACE}}}folder", "shifted"
MOMENT = ["prepare", "begin"]
OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442
"""Numbers of system calls, the same on all architectures."""
CLONE, EMPTY_PATH, FROM, TO = 1, 0x1000, 0x04, 0x40
NO_DEVICES, BY_IDS = 0x04, 0x00100000
NEW_USER = 0x10000000
DETACH, NO_FOLLOW = 2, 8
KILL = 9
PASSED_THROUGH = ("/run/libvirt", "/var/lib/libvirt")
GROUPS = "/sys/fs/cgroup"
OF_LIBVIRT = "machine"
"""libvirt's control groups, which a daemon with a stricter umask may have made."""
Folder = tuple[str, str, bool]
"""A folder of the node, where it is to be seen, and whether its files have the guest's ids on disk already."""
_libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """A folder cannot be shown; the text says which and why."""


def main(arguments: list[str]) -> int:
    """Do what libvirt's hook is called for: NAME OPERATION MOMENT EXTRA, and the domain's XML on standard input."""
    if arguments[1:3] != MOMENT:
        return 0
    try:
        prepare(sys.stdin.buffer.read())
    except (Refused, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def prepare(text: bytes) -> None:
    """Show all folders that a domain's XML names."""
    ids, folders = read(text)
    if ids is None or not folders:
        return
    groups = [GROUPS, *(f"{GROUPS}/{name}" for name in os.listdir(GROUPS))]
    theirs = [path for group in groups if os.path.isdir(path := f"{group}/{OF_LIBVIRT}")]
    for path in (*PASSED_THROUGH, *theirs):
        os.chmod(path, 0o711)
    namespace = user_namespace(*ids)
    for folder in folders:
        _show(folder, namespace)
    os.close(namespace)


def read(text: bytes) -> tuple[tuple[int, int] | None, list[Folder]]:
    """Return the first of the node's ids that are the guest's and how many there are, and the folders."""
    ids: list[tuple[int, int]] = []
    folders: list[Folder] = []

    def element(name: str, attributes: dict[str, str]) -> None:
        if name == "uid" and {"target", "count"} <= attributes.keys():
            ids.append((int(attributes["target"]), int(attributes["count"])))
        elif name == f"{SPACE} folder":
            folders.append((attributes["source"], attributes["place"], SHIFTED in attributes))

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = element
    parser.Parse(text, True)
    return ids[0] if ids else None, folders


def _show(folder: Folder, namespace: int) -> None:
    name, place, shifted = folder
    os.makedirs(place, exist_ok=True)
    while _libc.umount2(os.fsencode(place), DETACH | NO_FOLLOW) == 0:
        pass  # of the run before
    source = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    tree = mapped(source, None if shifted else namespace, name)
    target = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    _checked(_libc.syscall(MOVE_MOUNT, tree, b"", target, b"", FROM | TO), f"showing {name}")
    for descriptor in (source, tree, target):
        os.close(descriptor)


def mapped(folder: int, namespace: int | None, name: str) -> int:
    """Clone the mount of an open folder, with the ids of a user namespace and without devices; the caller owns it."""
    tree = _checked(_libc.syscall(OPEN_TREE, folder, b"", CLONE | EMPTY_PATH | os.O_CLOEXEC), f"cloning {name}")
    wanted = (ctypes.c_uint64 * 4)(NO_DEVICES | (0 if namespace is None else BY_IDS), 0, 0, namespace or 0)
    if _libc.syscall(MOUNT_SETATTR, tree, b"", EMPTY_PATH, wanted, ctypes.sizeof(wanted)) < 0:
        number = ctypes.get_errno()
        os.close(tree)
        why = "the kernel has no id-mapped mounts" if number == errno.ENOSYS else os.strerror(number)
        if number == errno.EINVAL:
            kernel = os.uname().release
            why = f"its file system or this kernel ({kernel}) has no id-mapped mounts, which containers need"
        raise Refused(f"{name}: {why} (mount_setattr, errno {number})")
    return tree


def user_namespace(first: int, count: int) -> int:
    """Return a user namespace in which ids from 0 on are this node's from ``first`` on; the caller owns it."""
    ready, made = os.pipe()
    child = os.fork()
    if child == 0:
        failed = _libc.unshare(NEW_USER) and (ctypes.get_errno() or errno.EPERM)
        os.write(made, bytes([failed]))
        while True:
            _libc.pause()
    try:
        if number := os.read(ready, 1)[0]:
            raise Refused(f"this kernel makes no user namespace: {os.strerror(number)} (errno {number})")
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{child}/{name}", "w") as file:
                file.write(f"0 {first} {count}\n")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.kill(child, KILL)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(made)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise Refused(f"{what}: {os.strerror(number)} (errno {number})")
    return result


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
