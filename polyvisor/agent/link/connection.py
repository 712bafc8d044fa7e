"""One connection to one launcher: the agent's end of their protocol (one JSON object a line, version 1).

The peer is believed because of whom the kernel says it is (``SO_PEERCRED``), not because of what it says. The state
kept here is the last one that the launcher told, by an event or in an answer; every answer but the console's holds it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polyvisor.agent.link.launcher_messages import LINE_LIMIT, State, Unasked, error_of, read_message, state_of
from polyvisor.agent.link.peers import connect, peer_of, stranger
from polyvisor.drivers.pace import Deadline, has_passed
from polyvisor.kube.tasks import end_task

VERSIONS = [1]
TIMEOUT = 60.0
GARBAGE = (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)
"""What reading from a launcher that has ended, or that talks nonsense, raises."""
ACTIVE = ("running", "paused", "shutdown")
ENDED = ("shutoff", "crashed")


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
            reader, writer = await asyncio.open_unix_connection(sock=await connect(path), limit=LINE_LIMIT)
    except (OSError, TimeoutError) as error:
        raise LauncherGone(f"no launcher listens on {path}: {error}") from None
    try:
        async with asyncio.timeout(TIMEOUT):
            if wrong := stranger(path, *peer_of(writer.get_extra_info("socket"))[:2]):
                raise LauncherError(f"{path} {wrong}")
            writer.write(json.dumps({"hello": {"versions": VERSIONS}}).encode() + b"\n")
            await writer.drain()
            hello = (await read_message(reader)).get("hello")
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

    async def request(self, operation: str, *, seconds: float = 0, exact: bool = False, **arguments: Any) -> State:
        """Ask for an operation and wait for its end, ``TIMEOUT`` unless said; return the state after it.

        The time limit follows the machine's pace, unless it is ``exact``.
        """
        seconds = seconds or TIMEOUT
        if self.closed:
            raise LauncherGone("the launcher has ended")
        self._number += 1
        number = self._number
        future: asyncio.Future[State] = asyncio.get_running_loop().create_future()
        self._pending[number] = future
        try:
            self._writer.write(json.dumps({"id": number, "op": operation, **arguments}).encode() + b"\n")
            deadline = Deadline(seconds)
            async with asyncio.timeout(seconds):
                await self._writer.drain()
            while not (await asyncio.wait([future], timeout=deadline.left))[0]:
                if exact or await asyncio.to_thread(has_passed, deadline):
                    raise TimeoutError
            return future.result()
        except TimeoutError:
            waited = f"{deadline.waited:.0f} s"
            raise LauncherError(f"the launcher did not answer to {operation!r} within {waited}") from None
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
        unasked = Unasked()
        try:
            while True:
                if not self._message(await read_message(reader)):
                    await unasked.one_more()
        except GARBAGE:
            pass  # whatever it was, this connection cannot go on; the owner connects again
        finally:
            self._writer.close()
            for future in self._pending.values():
                if not future.done():
                    future.set_exception(LauncherGone("the launcher has ended"))
            asyncio.get_running_loop().call_soon(self._tell)

    def _message(self, message: State) -> bool:
        """Take a message in; return whether it answers a question."""
        if isinstance(event := message.get("event"), dict):
            if event.get("type") == "state":
                self._learn(event)
            return False
        number = message.get("id")
        future = self._pending.pop(number, None) if isinstance(number, int) else None
        if isinstance(result := message.get("result"), dict):
            self._learn(result)
            if future and not future.done():
                future.set_result(result)
        elif (error := error_of(message)) and future and not future.done():
            future.set_exception(LauncherError(*error))
        return future is not None

    def _learn(self, told: State) -> None:
        state = state_of(told)
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
                answer = await read_message(reader)
                if answer.get("id") == 1:
                    break
        if error := error_of(answer):
            raise LauncherError(*error)
    except (*GARBAGE, TimeoutError) as error:
        writer.close()
        raise LauncherGone(f"the console cannot be opened: {error}") from None
    except BaseException:
        writer.close()
        raise
    return reader, writer
