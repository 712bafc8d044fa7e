"""A host with nothing on it: what a driver's probe says where there is no hypervisor, no daemon and no device.

The probe runs in a child process. As root the child has a root filesystem of its own which holds the libraries that
Python and libvirt need and nothing else: no programs, no ``/dev``, no sockets. Without root it only loses its ``PATH``.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from polyvisor.drivers.base import Driver, ProbeResult

CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
SECONDS = 30.0
LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")


def probe_nowhere(driver: Driver) -> tuple[ProbeResult | str, float]:
    """Return what the driver's probe says on a bare host (or what it raised), and how many seconds it took."""
    start = multiprocessing.get_context("fork")
    ours, theirs = start.Pipe()
    with tempfile.TemporaryDirectory(prefix="pvbare") as folder:
        child = start.Process(target=_child, args=(driver, Path(folder), theirs))
        child.start()
        theirs.close()
        try:
            answer: tuple[ProbeResult | str, float] = (
                ours.recv() if ours.poll(SECONDS) else (f"no answer within {SECONDS:.0f} s", SECONDS)
            )
        except EOFError:
            answer = ("the process ended without an answer", 0.0)
        child.kill()
        child.join()
    return answer


def is_really_bare() -> bool:
    """Whether this process may hide the host from a probe."""
    return os.geteuid() == 0


def _child(driver: Driver, folder: Path, answer: Connection) -> None:
    try:
        _import_lazily_needed()
        scratch = folder
        if is_really_bare():
            _hide(folder)
            scratch = Path("/scratch")
        os.environ["PATH"] = ""
        start = time.monotonic()
        result: ProbeResult | str = driver.probe(scratch)
        seconds = time.monotonic() - start
    except BaseException as error:
        answer.send((f"{type(error).__name__}: {error}", 0.0))
    else:
        answer.send((result, seconds))


def _import_lazily_needed() -> None:
    import libvirt

    libvirt.virInitialize()


def _hide(folder: Path) -> None:
    """Make a tree of libraries alone the root of this process."""
    libc = ctypes.CDLL(None, use_errno=True)
    _must(libc.unshare(CLONE_NEWNS))
    _must(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
    _must(libc.mount(b"none", os.fsencode(folder), b"tmpfs", 0, None))
    for name in ("proc", "dev", "run", "tmp", "etc", "scratch"):
        (folder / name).mkdir()
    for source in dict.fromkeys([*LIBRARIES, *(path for path in sys.path if path)]):
        origin = Path(source).resolve()
        target = folder / source.lstrip("/")
        if not origin.exists() or target.exists():
            continue
        if origin.is_dir():
            target.mkdir(parents=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        _must(libc.mount(os.fsencode(origin), os.fsencode(target), None, MS_BIND | MS_REC, None))
    _must(libc.mount(b"none", os.fsencode(folder / "proc"), b"proc", 0, None))
    os.chroot(folder)
    os.chdir("/")


def _must(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
