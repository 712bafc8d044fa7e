"""Probes one driver inside a container of its launcher image; a program of its own, since threads cannot be moved.

``python -m polyvisor.agent.probe_inside DRIVER SCRATCH PROCESS [devices]`` enters the mount namespace of the process
behind the descriptor PROCESS, in a private copy, and prints the answer as JSON. There it has the image's programs and
libraries, a root file system that it may write to, the agent's rights, ``/proc`` and ``/sys``, and with ``devices`` the
agent's ``/dev`` instead of the container's own. What isn't obvious: everything that is Polyvisor's and not in the image
is loaded before it enters.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from polyvisor.drivers import registry, trial
from polyvisor.drivers.memory import written

CLONE_NEWNS = 0x00020000
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x20, 0x1000, 0x4000, 0x40000
AT_FDCWD, AT_RECURSIVE, OPEN_TREE_CLONE, MOVE_FROM = -100, 0x8000, 1, 0x04
OPEN_TREE, MOVE_MOUNT = 428, 429
"""Numbers of system calls, the same on all architectures."""
DEVICES = "devices"
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def enter(process: int, *, devices: bool) -> None:
    """Go into a private copy of a process's mount namespace, with what a probe needs of this one."""
    flags = OPEN_TREE_CLONE | AT_RECURSIVE | os.O_CLOEXEC
    brought = {
        place: _checked(_libc.syscall(OPEN_TREE, AT_FDCWD, place.encode(), flags), f"cloning {place}")
        for place in ("/sys", *(("/dev",) if devices else ()))
    }
    _checked(_libc.setns(process, CLONE_NEWNS), "entering the container")
    _checked(_libc.unshare(CLONE_NEWNS), "copying its mounts")
    _checked(_libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "keeping mounts to itself")
    _checked(_libc.mount(None, b"/", None, MS_REMOUNT | MS_BIND, None), "making the copy of the root writable")
    _checked(_libc.mount(b"tmpfs", b"/run", b"tmpfs", 0, b"mode=755"), "mounting /run")
    _checked(_libc.mount(b"proc", b"/proc", b"proc", 0, None), "mounting /proc")
    for place, tree in brought.items():
        moved = _libc.syscall(MOVE_MOUNT, tree, b"", AT_FDCWD, place.encode(), MOVE_FROM)
        _checked(moved, f"putting {place} in its place")
        os.close(tree)


def main(arguments: Sequence[str]) -> int:
    """Run the program."""
    name, scratch, process, *more = arguments
    driver = registry().get(name)
    if driver is None:
        os.write(2, f"no driver has the name {name}".encode())
        return 1
    with suppress(ImportError):
        importlib.import_module(f"{type(driver).__module__}.probe")
    signal.signal(signal.SIGTERM, lambda *_: trial.abandon(Path(scratch)))
    try:
        enter(int(process), devices=DEVICES in more)
        answer = driver.probe(Path(scratch))
    except Exception as error:  # what another package's driver raises is the answer, too
        os.write(2, f"{type(error).__name__}: {error}".encode())
        return 1
    sys.stdout.write(json.dumps(written(answer)))
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # nothing is loaded or cleaned up in a foreign namespace
