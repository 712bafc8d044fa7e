"""One connection to one launcher: the agent's end of their protocol (one JSON object a line, version 1).

The peer is believed because of whom the kernel says it is (``SO_PEERCRED``), not because of what it says. The state
kept here is the last one that the launcher told, by an event or in an answer; every answer but the console's holds it.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polyvisor.agent.peers import address_of, peer_of, stranger
from polyvisor.kube.tasks import end_task

VERSIONS = [1]
LINE_LIMIT = 1024 * 1024
TIMEOUT = 60.0
DESCRIPTOR_TIMEOUT = 15.0
GARBAGE = (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)
"""What reading from a launcher that has ended, or that talks nonsense, raises."""
ACTIVE = ("running", "paused", "shutdown")
ENDED = ("shutoff", "crashed")
State = dict[str, Any]


class LauncherError(Exception):
    """A launcher refused or failed to do something; ``code`` is its word for why."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class LauncherGone(LauncherError):
    """There is no launcher at the other end, or not any more."""


async def _opened(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Any]:
    try:
        async with asyncio.timeout(TIMEOUT):
            with address_of(path) as address:
                reader, writer = await asyncio.open_unix_connection(address, limit=LINE_LIMIT)
    except (OSError, TimeoutError) as error:
        raise LauncherGone(f"no launcher listens on {path}: {error}") from None
    try:
        async with asyncio.timeout(TIMEOUT):
            if wrong := stranger(path, *peer_of(writer.get_extra_info("socket"))[:2]):
                raise LauncherError(f"{path} {wrong}")
            hello = (await _asked(reader, writer, {"hello": {"versions": VERSIONS}})).get("hello")
            if not isinstance(hello, dict) or hello.get("version") not in VERSIONS:
                raise LauncherError(
                    f"the launcher on {path} speaks none of our protocol versions {VERSIONS}", "version"
                )
    except (*GARBAGE, TimeoutError) as error:
        writer.close()
        raise LauncherGone(f"the launcher on {path} gave no greeting: {error}") from None
    except BaseException:
        writer.close()
        raise
    return reader, writer, hello


async def _asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: Any) -> State:
    writer.write(json.dumps(message).encode() + b"\n")
    await writer.drain()
    answer = json.loads(await reader.readuntil(b"\n"))
    if not isinstance(answer, dict):
        raise ValueError("not an object")
    return answer


class Link:
    """A connection that is open until :attr:`closed`. Made by :meth:`connect`."""

    def __init__(
        self,
        path: Path,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        hello: State,
        changed: Callable[[], None],
    ) -> None:
        self.path = path
        self.hello = hello
        self.pid, self.user, self.gid = peer_of(writer.get_extra_info("socket"))
        self.state: State = {"state": "none", "reason": ""}
        self.asked_at = 0.0
        self._writer = writer
        self._changed = changed
        self._waiting: set[asyncio.Future[None]] = set()
        self._pending: dict[int, asyncio.Future[State]] = {}
        self._number = 0
        self._reading = asyncio.create_task(self._read(reader), name=f"launcher-{path.parent.name}")

    @classmethod
    async def connect(cls, path: Path, changed: Callable[[], None]) -> Link:
        """Connect, shake hands and ask for the state; ``changed`` is called when the state changes or the link ends."""
        link = cls(path, *await _opened(path), changed)
        try:
            await link.request("state")
        except BaseException:
            await link.close()
            raise
        return link

    @property
    def closed(self) -> bool:
        """Whether the connection is over."""
        return self._reading.done()

    @property
    def active(self) -> bool:
        """Whether there is a domain that runs or could go on running."""
        return self.state.get("state") in ACTIVE

    @property
    def ended(self) -> bool:
        """Whether there was a domain and it is over."""
        return self.state.get("state") in ENDED

    async def request(self, operation: str, *, seconds: float = TIMEOUT, **arguments: Any) -> State:
        """Ask for an operation and wait for its end; return the state after it."""
        if self.closed:
            raise LauncherGone("the launcher has ended")
        self._number += 1
        number = self._number
        future: asyncio.Future[State] = asyncio.get_running_loop().create_future()
        self._pending[number] = future
        try:
            self._writer.write(json.dumps({"id": number, "op": operation, **arguments}).encode() + b"\n")
            async with asyncio.timeout(seconds):
                await self._writer.drain()
                return await future
        except TimeoutError:
            raise LauncherError(f"the launcher did not answer to {operation!r} within {seconds:.0f} s") from None
        except OSError as error:
            raise LauncherGone(f"the launcher has ended: {error}") from None
        finally:
            self._pending.pop(number, None)

    async def changed(self) -> None:
        """Wait until the state changes or the link ends."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    def _tell(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._changed()

    async def close(self) -> None:
        """Let go of the connection; launcher and domain go on."""
        await end_task(self._reading)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                self._message(json.loads(await reader.readuntil(b"\n")))
        except GARBAGE:
            pass  # whatever it was, this connection cannot go on; the owner connects again
        finally:
            self._writer.close()
            for future in self._pending.values():
                if not future.done():
                    future.set_exception(LauncherGone("the launcher has ended"))
            asyncio.get_running_loop().call_soon(self._tell)

    def _message(self, message: Any) -> None:
        if not isinstance(message, dict):
            raise ValueError("not an object")
        if isinstance(event := message.get("event"), dict):
            if event.get("type") == "state":
                self._learn(event)
            return
        future = self._pending.get(message.get("id", -1))
        if isinstance(result := message.get("result"), dict):
            self._learn(result)
            if future and not future.done():
                future.set_result(result)
        elif isinstance(error := message.get("error"), dict) and future and not future.done():
            future.set_exception(LauncherError(str(error.get("message"))[:1000], str(error.get("code"))))

    def _learn(self, told: State) -> None:
        state: State = {key: told[key] for key in ("state", "reason", "since", "id", "agent") if key in told}
        if "state" in state and state != self.state:
            self.state = state
            self._tell()


async def open_console(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open the console of the launcher that listens on ``path``: from then on a stream of bytes both ways."""
    reader, writer, _ = await _opened(path)
    try:
        async with asyncio.timeout(TIMEOUT):
            writer.write(json.dumps({"id": 1, "op": "console"}).encode() + b"\n")
            while True:
                answer = json.loads(await reader.readuntil(b"\n"))
                if answer.get("id") == 1:
                    break
        if error := answer.get("error"):
            raise LauncherError(str(error.get("message")), str(error.get("code")))
    except (*GARBAGE, TimeoutError) as error:
        writer.close()
        raise LauncherGone(f"the console cannot be opened: {error}") from None
    except BaseException:
        writer.close()
        raise
    return reader, writer


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


def ask_for_descriptor(path: Path, operation: str, **arguments: Any) -> tuple[Descriptor, State]:
    """Ask the launcher that listens on ``path`` for something that comes as a file descriptor. Blocking."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(DESCRIPTOR_TIMEOUT)
        try:
            with address_of(path) as address:
                peer.connect(address)
            if wrong := stranger(path, *peer_of(peer)[:2]):
                raise LauncherError(f"{path} {wrong}")
            for message in ({"hello": {"versions": VERSIONS}}, {"id": 1, "op": operation, **arguments}):
                peer.sendall(json.dumps(message).encode() + b"\n")
            return _with_descriptor(peer)
        except TimeoutError:
            raise LauncherError(f"the launcher did not answer to {operation!r} in {DESCRIPTOR_TIMEOUT:.0f} s") from None
        except (OSError, ValueError) as error:
            raise LauncherGone(f"the launcher on {path} has ended or talks nonsense: {error}") from None


def _with_descriptor(peer: socket.socket) -> tuple[Descriptor, State]:
    found: list[Descriptor] = []
    text = b""
    while True:
        data, descriptors, _, _ = socket.recv_fds(peer, 65536, 4)
        found += [Descriptor(number) for number in descriptors]
        *lines, text = (text + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if not isinstance(message, dict):
                raise ValueError("not an object")
            if error := message.get("error"):
                raise LauncherError(str(error.get("message"))[:1000], str(error.get("code")))
            if message.get("id") == 1 and found:
                return found[0], dict(message.get("result") or {})
        if not data or len(text) > LINE_LIMIT:
            raise ValueError("no answer with a descriptor")
