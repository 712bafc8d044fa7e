"""A network namespace that this process is not in: programs run in it, files and sockets opened in it.

It is held by its descriptor, so it stays the same one whatever becomes of the process or path that it was found by. The
node's own namespace is refused: nothing of a machine's network is ever set up there by mistake.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from polyvisor.agent.errors import AgentError

CLONE_NEWNET = 0x40000000
COMMAND_SECONDS = 20
T = TypeVar("T")
_libc = ctypes.CDLL(None, use_errno=True)


class NetworkError(AgentError):
    """A network cannot be set up; the text says which and why."""


class Namespace:
    """An open network namespace; close it, or use it as a context."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def open(cls, path: Path) -> Namespace:
        """Open the namespace at ``path`` (``/proc/PID/ns/net``, ``/run/netns/NAME``). Raises :class:`NetworkError`."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise NetworkError(f"the network namespace {path} cannot be opened: {error.strerror}") from None
        found = cls(descriptor)
        if found.identity in _own():
            found.close()
            raise NetworkError(f"{path} is the node's own network namespace, in which no machine's network is set up")
        return found

    @property
    def identity(self) -> tuple[int, int]:
        """What tells namespaces apart."""
        seen = os.fstat(self._descriptor)
        return seen.st_dev, seen.st_ino

    def run(self, command: Sequence[str], text: str = "") -> str:
        """Run a program in it with ``text`` as its input; return what it printed. Blocking."""
        whole = ["nsenter", f"--net=/proc/self/fd/{self._descriptor}", "--", *command]
        try:
            done = subprocess.run(
                whole,
                input=text,
                capture_output=True,
                text=True,
                timeout=COMMAND_SECONDS,
                pass_fds=[self._descriptor],
                cwd="/",
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NetworkError(f"{command[0]} cannot be run: {error}") from None
        if done.returncode:
            raise NetworkError(f"{command[0]}: {(done.stderr or done.stdout).strip()[:500]}")
        return done.stdout

    def within(self, act: Callable[[], T]) -> T:
        """Call ``act`` in the namespace, on a thread that ends with it; what it opens belongs to the namespace."""
        found: list[T] = []
        failed: list[BaseException] = []

        def work() -> None:
            try:
                if _libc.setns(self._descriptor, CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "the network namespace cannot be entered")
                found.append(act())
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=work, name="namespace")
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return found[0]

    def socket(self, kind: socket.SocketKind, version: int = 4) -> socket.socket:
        """Return a new socket, of IPv4 or IPv6, that sends and listens in the namespace."""
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        return self.within(lambda: socket.socket(family, kind))

    def set(self, key: str, value: str) -> None:
        """Write one of the kernel's settings, such as ``net/ipv4/ip_forward``."""

        def write() -> None:
            Path("/proc/sys", key).write_text(value)

        try:
            self.within(write)
        except OSError as error:
            raise NetworkError(f"/proc/sys/{key} cannot be set: {error.strerror}") from None

    def close(self) -> None:
        """Let go of it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def __enter__(self) -> Namespace:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def forward6(outer: str) -> None:
    """Forward IPv6 in the namespace that this thread is in. What ``outer`` learned of routers it goes on learning."""
    settings = Path("/proc/sys/net/ipv6/conf")
    try:
        heeds = settings / outer / "accept_ra"
        if heeds.read_text().strip() == "1":  # heeds routers unless it is one itself
            heeds.write_text("2")
        (settings / "default" / "disable_ipv6").write_text("0")
        (settings / "all" / "forwarding").write_text("1")
    except OSError as error:
        raise NetworkError(f"IPv6 cannot be forwarded: {error.strerror} ({error.filename})") from None


def _own() -> set[tuple[int, int]]:
    found = set()
    for process in ("self", "1"):
        try:
            seen = os.stat(f"/proc/{process}/ns/net")  # noqa: PTH116
        except OSError:
            continue
        found.add((seen.st_dev, seen.st_ino))
    return found
