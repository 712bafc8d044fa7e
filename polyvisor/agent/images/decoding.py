"""Runs qemu-img on images that others made: as an unprivileged user, where there is nothing but the image.

An image that passed :mod:`.examining` names no other file, but qemu-img still parses what a stranger wrote. So
bubblewrap gives it an empty mount namespace (libraries, the image to read, one file to write), no network, no other
processes, no capabilities; and limits on memory, CPU time, length of what it writes and wall time.

What isn't obvious: root makes that namespace with its own rights and becomes another user inside, so the image and the
output have to be files that only the agent can reach and that this user may open. Another user than root needs user
namespaces for it; where these are switched off only the limits are left, and :func:`confinement` says so.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from polyvisor.agent.errors import AgentError, ImageError
from polyvisor.agent.files import safepath
from polyvisor.agent.files.sparse import copy_sparse
from polyvisor.prerequisites import not_installed

USER = 65534
MEMORY = 2 << 30
LOOK_SECONDS = 60
"""Of CPU, to describe or check an image."""
CONVERT_SECONDS = 120
CONVERT_SECONDS_PER_GIB = 60
WALL = 4
"""How many seconds may pass for each second of CPU: a busy host is slow, not wrong."""
MAX_GROWTH = 100
"""How many times longer than the image may what was unpacked from it be on disk, beside ``ROOM``."""
ROOM = 1 << 30
MAX_SAID = 1 << 20
LOOK = 0.2
"""How often, in seconds, to look at the output's length."""
_PERCENT = re.compile(rb"\((\d+\.\d+)/100%\)")
SANDBOX, LIMITS = "sandbox", "limits"


@dataclass(frozen=True)
class _Task:
    """One run of qemu-img: arguments with ``IN`` and ``OUT`` for the files; limits."""

    arguments: tuple[str, ...]
    image: Path
    seconds: int
    out: Path | None = None
    most: int = 0
    """Bytes of the longest file that may be written."""


@cache
def confinement() -> str:
    """Return what qemu-img runs in: ``sandbox``, or ``limits`` alone where this user may make no namespaces."""
    if os.geteuid() == 0:
        return SANDBOX
    program = shutil.which("bwrap")
    if program is None:
        return LIMITS
    tried = subprocess.run([program, *_namespaces(), "--", "/usr/bin/true"], capture_output=True, check=False)
    return LIMITS if tried.returncode else SANDBOX


def _namespaces() -> list[str]:
    """Return bubblewrap's options: nothing but programs and libraries is there."""
    arguments = ["--unshare-ipc", "--unshare-net", "--unshare-uts", "--unshare-pid", "--unshare-cgroup-try"]
    arguments += ["--die-with-parent", "--clearenv", "--setenv", "LC_ALL", "C", "--chdir", "/"]
    if os.geteuid() == 0:
        arguments += ["--cap-drop", "ALL"]
        for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):
            arguments += ["--cap-add", capability]
    else:
        arguments += ["--unshare-user"]
    arguments += ["--dev", "/dev", "--ro-bind", "/usr", "/usr"]
    for name in ("lib", "lib64", "bin"):
        place = Path("/", name)
        if place.is_symlink():
            arguments += ["--symlink", str(place.readlink()), str(place)]
        elif place.is_dir():
            arguments += ["--ro-bind", str(place), str(place)]
    return arguments


def _command(task: _Task) -> list[str]:
    limits = [f"--as={MEMORY}", f"--cpu={task.seconds}", f"--fsize={task.most}", "--core=0", "--nofile=64"]
    names = {"IN": str(task.image), "OUT": str(task.out)}
    if confinement() == LIMITS:
        program = _program("qemu-img")
        return [_program("prlimit"), *limits, "--", program, *(names.get(word, word) for word in task.arguments)]
    arguments = [_program("bwrap"), *_namespaces(), "--ro-bind", names["IN"], "/image"]
    if task.out is not None:
        arguments += ["--bind", names["OUT"], "/out"]
    arguments.append("--")
    if os.geteuid() == 0:
        arguments += ["/usr/bin/setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"]
        arguments += ["--bounding-set=-all", "--inh-caps=-all", "--"]
    inside = {"IN": "/image", "OUT": "/out"}
    _program("qemu-img")
    return [*arguments, "/usr/bin/prlimit", *limits, "--", "/usr/bin/qemu-img"] + [
        inside.get(word, word) for word in task.arguments
    ]


def _program(name: str) -> str:
    if (found := shutil.which(name)) is None:
        raise AgentError(f"looking at a disk image: {not_installed(name)}")
    return found


def own_copy(source: int, place: Path) -> None:
    """Copy an open image to a file of our own, which nobody else can change while it is decoded."""
    with place.open("xb") as file:
        copy_sparse(source, file.fileno())


def virtual_size(image: Path, format_: str, called: str) -> int:
    """Return the size of the disk in an image that was examined."""
    said = _run(_Task(("info", "--output=json", "-f", format_, "IN"), image, LOOK_SECONDS), called)
    try:
        found = json.loads(said)
        size = int(found["virtual-size"])
    except (ValueError, LookupError, TypeError):
        raise ImageError(f"{called} is not a readable {format_} image", retry=False) from None
    if "backing-filename" in found:
        raise ImageError(f"{called} is refused: it reads other files; flatten it with qemu-img convert", retry=False)
    return size


def check(image: Path, format_: str, called: str) -> None:
    """Refuse an image whose tables contradict each other, as far as qemu-img can check its format."""
    _run(_Task(("check", "-q", "-f", format_, "IN"), image, LOOK_SECONDS), called, fine=(0, 3, 63))


def convert(
    image: Path,
    format_: str,
    place: Path,
    wanted: str,
    size: int,
    called: str,
    progress: Callable[[float], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> None:
    """Write the disk of an image that was examined, of ``size`` bytes, in another format to a new file."""
    seconds = CONVERT_SECONDS + CONVERT_SECONDS_PER_GIB * (size >> 30)
    arguments = ("convert", "-p", "-f", format_, "-O", wanted, "-t", "writeback", "IN", "OUT")
    with place.open("xb") as file:
        if os.geteuid() == 0 and confinement() == SANDBOX:
            os.fchown(file.fileno(), USER, USER)
    _run(_Task(arguments, image, seconds, place, size + size // 64 + (64 << 20)), called, progress, stop)
    with safepath.opened_root(place.parent) as folder:
        done = safepath.open_file(folder, [place.name], os.O_RDWR)
    try:
        os.fchown(done, os.geteuid(), os.getegid())
        os.fchmod(done, 0o600)
        os.fsync(done)
    finally:
        os.close(done)


def _run(
    task: _Task,
    called: str,
    progress: Callable[[float], None] = lambda _: None,
    stop: threading.Event | None = None,
    fine: tuple[int, ...] = (0,),
) -> bytes:
    """Run qemu-img and return what it prints; end it at its limits, or when it is given up."""
    task.image.chmod(0o444)  # in a folder that nobody else can reach
    most = task.image.stat().st_size * MAX_GROWTH + ROOM
    deadline = time.monotonic() + task.seconds * WALL
    said, complaints = bytearray(), bytearray()
    doing = f"{'converting' if task.out else 'looking at'} {called}"
    with subprocess.Popen(
        _command(task),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"LC_ALL": "C"},
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        ended = threading.Event()
        readers = [
            threading.Thread(target=_drain, args=(process.stdout.fileno(), said), daemon=True),
            threading.Thread(target=_drain, args=(process.stderr.fileno(), complaints), daemon=True),
            threading.Thread(target=_await, args=(process, ended), daemon=True),
        ]
        for reader in readers:
            reader.start()
        try:
            while True:
                if percents := _PERCENT.findall(bytes(said)):
                    progress(float(percents[-1]) / 100)
                if stop is not None and stop.is_set():
                    raise AgentError(f"{doing} was given up")
                if time.monotonic() > deadline:
                    raise ImageError(f"{doing} took longer than {task.seconds * WALL} s", retry=False)
                if task.out is not None and task.out.stat().st_blocks * 512 > most:
                    raise ImageError(f"{called} is refused: it unpacks to more than {most} bytes", retry=False)
                if ended.wait(LOOK):
                    break
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # bubblewrap's own child would outlive it for a moment
            raise
        finally:
            for reader in readers:
                reader.join()
    if process.returncode in fine:
        progress(1.0)
        return bytes(said)
    words = complaints.decode(errors="replace").strip()
    if "No space left on device" in words or "Disk quota exceeded" in words:
        raise AgentError(f"no space left while {doing}; free some space")
    last = words.splitlines()[-1][-300:] if words else f"qemu-img ended with code {process.returncode}"
    if task.arguments[0] == "check":
        raise ImageError(f"{called} is damaged or cut off: {last}; copy it again", retry=False)
    raise ImageError(f"{called} is not a readable image ({doing}): {last}", retry=False)


def _await(process: subprocess.Popen[bytes], ended: threading.Event) -> None:
    process.wait()
    ended.set()


def _drain(descriptor: int, into: bytearray) -> None:
    """Read to the end, and keep as much as anybody needs."""
    while data := os.read(descriptor, 4096):
        into += data
        del into[: max(0, len(into) - MAX_SAID)]
