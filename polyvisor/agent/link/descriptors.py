"""File descriptors that launchers hand over: a screen, a port, a USB slot, a picture.

What comes is whatever the launcher chose: a pipe that never ends, a file on a FUSE mount of its own, a thousand
descriptors. So an exchange has one deadline in all and nothing in it blocks; one descriptor is taken and any more are
refused; and a file is looked at and read on a thread that its machine may occupy for ever without harm to others.
"""

from __future__ import annotations

import array
import asyncio
import json
import os
import socket
import stat
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from polyvisor.agent.link.connection import VERSIONS, LauncherError, LauncherGone
from polyvisor.agent.link.launcher_messages import LINE_LIMIT, State, decode, error_of
from polyvisor.agent.link.peers import connect, peer_of, stranger

EXCHANGE_SECONDS = 15.0
"""From connecting to the last byte of the answer."""
READ_SECONDS = 15.0
MAX_FILE = 64 * 1024 * 1024
"""Bytes of a file that are read: a pixmap of 5,120 by 2,880 has 44 MiB."""
MAX_READS = 2
"""Reads at one time for one machine; one that hangs counts until the kernel lets it go."""
_PIECE = 65536
Found = TypeVar("Found")


class Descriptor:
    """A file descriptor that is closed when nobody has taken it."""

    def __init__(self, number: int) -> None:
        self._number = number

    def take(self) -> int:
        """Return the number; whoever takes it has to close it."""
        number, self._number = self._number, -1
        return number

    def __del__(self) -> None:
        if self._number >= 0:
            os.close(self._number)


async def ask_for_descriptor(path: Path, operation: str, **arguments: object) -> tuple[Descriptor, State]:
    """Ask the launcher that listens on ``path`` for something that comes as a file descriptor."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(EXCHANGE_SECONDS):
            with await connect(path) as peer:
                if wrong := stranger(path, *peer_of(peer)[:2]):
                    raise LauncherError(f"{path} {wrong}")
                for message in ({"hello": {"versions": VERSIONS}}, {"id": 1, "op": operation, **arguments}):
                    await loop.sock_sendall(peer, json.dumps(message).encode() + b"\n")
                return await _answer(peer)
    except TimeoutError:
        raise LauncherError(f"the launcher did not answer to {operation!r} in {EXCHANGE_SECONDS:g} s") from None
    except (OSError, ValueError) as error:
        raise LauncherGone(f"the launcher on {path} has ended, or its answer cannot be read: {error}") from None


async def ask_for_socket(path: Path, operation: str, **arguments: object) -> socket.socket:
    """Ask for a connection: a stream socket, ready for the event loop."""
    found, _ = await ask_for_descriptor(path, operation, **arguments)
    number = found.take()
    try:
        connection = socket.socket(fileno=number)
    except OSError as error:
        os.close(number)
        raise LauncherGone(f"the launcher on {path} handed over something that is not a socket: {error}") from None
    if connection.type != socket.SOCK_STREAM:
        connection.close()
        raise LauncherGone(f"the launcher on {path} handed over a socket that is not a stream")
    connection.setblocking(False)
    return connection


async def _answer(peer: socket.socket) -> tuple[Descriptor, State]:
    """Read the answer to request 1 and the one descriptor that comes with it."""
    found: Descriptor | None = None
    text = bytearray()
    while True:
        data, more = await _received(peer)
        if more and (found or len(more) > 1):
            raise ValueError("more than one descriptor")
        found = found or next(iter(more), None)
        text += data
        while (end := text.find(b"\n")) >= 0:
            message = decode(bytes(text[:end]))
            del text[: end + 1]
            if error := error_of(message):
                raise LauncherError(*error)
            if message.get("id") == 1 and found:
                result = message.get("result")
                return found, result if isinstance(result, dict) else {}
            await asyncio.sleep(0)
        if not data or len(text) > LINE_LIMIT:
            raise ValueError("no answer with a descriptor")


async def _received(peer: socket.socket) -> tuple[bytes, list[Descriptor]]:
    """Receive once, with room for one descriptor: the kernel closes what does not fit, and says so."""
    await _readable(peer)
    data, controls, flags, _ = peer.recvmsg(_PIECE, socket.CMSG_LEN(4), socket.MSG_CMSG_CLOEXEC)
    found = [
        Descriptor(number)
        for level, kind, content in controls
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS
        for number in array.array("i", content[: len(content) // 4 * 4])
    ]
    if flags & socket.MSG_CTRUNC:
        raise ValueError("more than one descriptor in a message")
    return data, found


async def _readable(peer: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(peer, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(peer)


class Readers:
    """Threads that look at what launchers hand over, each machine's apart from the others'."""

    def __init__(self) -> None:
        self._busy: Counter[str] = Counter()

    async def run(self, machine: str, read: Callable[[], Found]) -> Found:
        """Return what ``read`` returns, done on a thread of the machine's. Raises :class:`LauncherError`.

        The thread is no member of a pool: one that never comes back would hold up the end of the process.
        """
        if self._busy[machine] >= MAX_READS:
            raise LauncherError(f"{MAX_READS} reads from this launcher have not ended", "busy")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Found] = loop.create_future()
        self._busy[machine] += 1

        def work() -> None:
            found: Found | BaseException
            try:
                found = read()
            except BaseException as error:
                found = error
            with suppress(RuntimeError):  # the event loop has ended
                loop.call_soon_threadsafe(ended, found)

        def ended(found: Found | BaseException) -> None:
            self._busy[machine] -= 1
            if not self._busy[machine]:
                del self._busy[machine]
            if done.done():
                return
            if isinstance(found, BaseException):
                done.set_exception(found)
            else:
                done.set_result(found)

        threading.Thread(target=work, name=f"read-{machine}", daemon=True).start()
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await done
        except TimeoutError:
            raise LauncherError(f"what the launcher handed over was not read in {READ_SECONDS:g} s") from None


def read_file(found: Descriptor) -> bytes:
    """Return the content of a regular file of bounded size, and close it. Blocking; see :class:`Readers`."""
    number = found.take()
    try:
        info = os.fstat(number)
        if not stat.S_ISREG(info.st_mode):
            raise LauncherError("the launcher handed over something that is not a regular file", "picture")
        if info.st_size > MAX_FILE:
            raise LauncherError(f"the launcher handed over {info.st_size} bytes; {MAX_FILE} are read", "picture")
        return os.pread(number, info.st_size, 0)
    except OSError as error:
        raise LauncherError(f"what the launcher handed over cannot be read: {error}", "picture") from None
    finally:
        os.close(number)
