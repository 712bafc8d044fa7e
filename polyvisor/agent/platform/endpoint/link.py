"""The agent's end of an endpoint's launcher: a child process, a socket between the two, requests and events.

The socket has no name, so nobody else can connect to it, and the launcher ends when it is closed, however the agent
ends. What the launcher says is read within the limits that hold for all launchers. A request that is not answered in
time means that the launcher waits for its host; it is then ended, since nothing else interrupts libvirt.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from polyvisor.agent.launchers.processes import PASSED_ON
from polyvisor.agent.link.launcher_messages import LINE_LIMIT, MAX_TEXT, State, Unasked, read_message
from polyvisor.kube.tasks import end_task

VERSIONS = [1]
MAX_LOG = 16 * 1024 * 1024
"""Bytes of a launcher's log, which is looked at after each request."""
log = logging.getLogger("polyvisor.endpoints")
GREETING_SECONDS = 40.0
END_SECONDS = 10.0
QUIET = {"LIBVIRT_LOG_OUTPUTS": "4:stderr"}
"""Errors alone: some drivers warn of each property of an answer that they do not know, with each look at the host."""


class HostError(Exception):
    """libvirt or the launcher refused; ``libvirt_code`` is libvirt's, 0 if it is not one of libvirt's errors."""

    def __init__(self, message: str, code: str = "", libvirt_code: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.libvirt_code = libvirt_code


class NoAnswer(HostError):
    """The launcher did not answer in time."""

    def __init__(self, operation: str, seconds: float) -> None:
        super().__init__(f"no answer to {operation} within {seconds:.0f} s", "no-answer")
        self.operation = operation
        self.seconds = seconds


class LauncherEnded(HostError):
    """The launcher is gone."""


class HostLink:
    """A running launcher. Made by :meth:`start`; ``told`` is called with each event, ``None`` when it has ended."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        told: Callable[[State | None], None],
        streams: Path,
        log: Path,
    ) -> None:
        self._process = process
        self._log = log
        self._streams = streams
        self._writer = writer
        self._told = told
        self._number = 0
        self._pending: dict[int, asyncio.Future[State]] = {}
        self._greeted: asyncio.Future[State] = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read(reader), name=f"endpoint-launcher-{process.pid}")

    @classmethod
    async def start(
        cls, folder: Path, log: Path, told: Callable[[State | None], None], consoles: Path | None = None
    ) -> HostLink:
        """Start a launcher whose private files go to ``folder`` and whose messages go to ``log``.

        What guests write goes to ``consoles``, a folder beside the log if none is given.
        """
        streams, consoles = folder.with_name(f"{folder.name}.sock"), consoles or log.with_name("consoles")
        ours, theirs = socket.socketpair()
        trim(log)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        keep = {key: value for key, value in os.environ.items() if key in PASSED_ON}
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "polyvisor.launcher.endpoint"),
                *(str(folder), str(streams), str(consoles)),
                stdin=theirs.fileno(),
                stdout=descriptor,
                stderr=descriptor,
                cwd="/",
                env={**keep, **QUIET},
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            os.close(descriptor)
            theirs.close()
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=LINE_LIMIT)
        link = cls(process, reader, writer, told, streams, log)
        try:
            link._send({"hello": {"versions": VERSIONS}})
            await asyncio.wait_for(asyncio.shield(link._greeted), GREETING_SECONDS)
        except TimeoutError:
            await link.close()
            raise NoAnswer("the greeting", GREETING_SECONDS) from None
        except BaseException:
            await link.close()
            raise
        return link

    @property
    def pid(self) -> int:
        """The launcher's process id."""
        return self._process.pid

    @property
    def closed(self) -> bool:
        """Whether the launcher is gone."""
        return self._reading.done()

    async def request(self, operation: str, seconds: float, **arguments: Any) -> State:
        """Ask for an operation and wait for its answer, at most ``seconds``. Raises :class:`HostError`."""
        if self.closed:
            raise LauncherEnded("the launcher has ended", "ended")
        self._number += 1
        number = self._number
        future: asyncio.Future[State] = asyncio.get_running_loop().create_future()
        self._pending[number] = future
        try:
            self._send({"id": number, "op": operation, **arguments})
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            raise NoAnswer(operation, seconds) from None
        finally:
            self._pending.pop(number, None)
            trim(self._log)

    async def every(
        self, operation: str, key: str, seconds: float, most: int, **arguments: Any
    ) -> list[dict[str, Any]]:
        """Ask for a list page by page; each page is given ``seconds``. A list that is longer than ``most`` is cut.

        Raises :class:`HostError`.
        """
        found: list[dict[str, Any]] = []
        offset = 0
        while len(found) <= most:
            told = await self.request(operation, seconds, offset=offset, **arguments)
            listed = told.get(key)
            page = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
            found += page
            following = told.get("next")
            if not page or not isinstance(following, int) or following <= offset:
                return found[:most]
            offset = following
        log.warning("%s: the host lists more than %d; the others are left out", operation, most)
        return found[:most]

    async def stream(self, seconds: float, **asked: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection for bytes, for what ``asked`` says; the launcher's answer is still to come.

        Raises :class:`HostError` if there is no launcher.
        """
        try:
            async with asyncio.timeout(seconds):
                reader, writer = await asyncio.open_unix_connection(self._streams, limit=LINE_LIMIT)
        except TimeoutError:
            raise NoAnswer(str(asked.get("op")), seconds) from None
        except OSError as error:
            raise LauncherEnded(f"the launcher has ended: {error}", "ended") from error
        writer.write(json.dumps(asked).encode() + b"\n")
        return reader, writer

    async def close(self) -> None:
        """End the launcher; it removes its files."""
        await end_task(self._reading)
        try:
            await asyncio.wait_for(self._process.wait(), END_SECONDS)
        except TimeoutError:
            self._process.kill()  # it is in a call that nothing else interrupts
            await self._process.wait()

    def _send(self, message: State) -> None:
        self._writer.write(json.dumps(message).encode() + b"\n")

    async def _read(self, reader: asyncio.StreamReader) -> None:
        unasked = Unasked()
        try:
            while True:
                if not self._message(await read_message(reader)):
                    await unasked.one_more()
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # it has ended or talks nonsense; either way the owner starts another
        finally:
            self._writer.close()
            for future in (*self._pending.values(), self._greeted):
                if not future.done():
                    future.set_exception(LauncherEnded("the launcher has ended", "ended"))
                    future.exception()  # nobody needs to be waiting for it
            asyncio.get_running_loop().call_soon(self._told, None)

    def _message(self, message: State) -> bool:
        """Take a message in; return whether it answers something."""
        if isinstance(message.get("hello"), dict) and not self._greeted.done():
            self._greeted.set_result(message)
            return True
        if isinstance(event := message.get("event"), dict):
            self._told(event)
            return False
        number = message.get("id")
        future = self._pending.get(number) if isinstance(number, int) else None
        if future is None or future.done():
            return False
        try:
            future.set_result(result_of(message))
        except HostError as error:
            future.set_exception(error)
        return True


def result_of(message: State) -> State:
    """Return the result in an answer. Raises :class:`HostError` if it is an error."""
    result = message.get("result")
    if isinstance(result, dict):
        return result
    raise _error(message.get("error"))


async def answer_of(reader: asyncio.StreamReader) -> State:
    """Return the result in the line that answers a stream's request. Raises :class:`HostError`."""
    try:
        return result_of(await read_message(reader))
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise LauncherEnded("the launcher has ended", "ended") from error


def trim(log: Path) -> None:
    """Empty a log that has grown too long; it is written to at its end, wherever that is.

    libvirt logs each error of a host, whose text may have megabytes.
    """
    with suppress(FileNotFoundError):
        if log.stat(follow_symlinks=False).st_size > MAX_LOG:
            os.truncate(log, 0)


def _plain(text: str) -> str:
    """Return the words of a host without control characters; lines stay lines."""
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text)


def _error(told: Any) -> HostError:
    error = told if isinstance(told, dict) else {}
    message, code, number = error.get("message"), error.get("code"), error.get("libvirtCode")
    return HostError(
        _plain(message[:MAX_TEXT]) if isinstance(message, str) else "the launcher gave no reason",
        code if isinstance(code, str) else "",
        number if isinstance(number, int) else 0,
    )
