"""The kernel's calls for mount namespaces and mounts that travel as descriptors (``open_tree``, ``move_mount``).

Standard library alone, all of it loaded on import: programs load this module before they enter a foreign namespace.
Each function raises :class:`OSError` with what was tried and the kernel's reason.
"""

from __future__ import annotations

import ctypes
import errno
import os

CLONE_NEWNS = 0x00020000
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x20, 0x1000, 0x4000, 0x40000
AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000
OPEN_TREE_CLONE = 1
MOVE_FROM, MOVE_TO = 0x04, 0x40
READ_ONLY, NO_SUID, NO_DEVICES, NO_PROGRAMS = 1, 2, 4, 8
DETACH, NO_FOLLOW = 2, 8
"""Flags of umount2: at once, though a program may not have closed a file yet; and of no link's target."""
OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442
"""Numbers of system calls, the same on all architectures."""
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def enter_namespace(process: int, what: str) -> None:
    """Enter the mount namespace of a process, given as a descriptor; only for a process without threads."""
    _checked(_libc.setns(process, CLONE_NEWNS), what)


def copy_namespace(what: str) -> None:
    """Go into a copy of this process's mount namespace."""
    _checked(_libc.unshare(CLONE_NEWNS), what)


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None, what: str) -> None:
    """Call ``mount(2)``."""
    given = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    _checked(_libc.mount(*given, flags, None if options is None else os.fsencode(options)), what)


def clone_tree(at: int, path: str, what: str, *, recursive: bool = False) -> int:
    """Clone the mount of ``path`` seen from a descriptor (empty: of that itself); the caller owns the descriptor."""
    how = AT_RECURSIVE if recursive else 0
    flags = OPEN_TREE_CLONE | how | os.O_CLOEXEC | (0 if path else AT_EMPTY_PATH)
    return _checked(_libc.syscall(OPEN_TREE, at, os.fsencode(path), flags), what)


def set_attributes(tree: int, attributes: int, what: str) -> None:
    """Set attributes of a cloned mount: ``READ_ONLY``, ``NO_SUID``, ``NO_DEVICES``, ``NO_PROGRAMS``."""
    wanted = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    done = _libc.syscall(MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH, wanted, ctypes.sizeof(wanted))
    _checked(done, what)


def put_tree(tree: int, at: int, path: str, what: str) -> None:
    """Put a cloned mount over ``path`` seen from a descriptor (empty: over that itself)."""
    flags = MOVE_FROM | (0 if path else MOVE_TO)
    _checked(_libc.syscall(MOVE_MOUNT, tree, b"", at, os.fsencode(path), flags), what)


def detach(name: str, what: str) -> None:
    """Take away what is mounted over a file of the current folder; one without a mount is left as it is."""
    if _libc.umount2(os.fsencode(name), DETACH | NO_FOLLOW) < 0 and ctypes.get_errno() != errno.EINVAL:
        _checked(-1, what)
