"""The agent's end of the launcher's protocol, against launchers that misbehave."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from polyvisor.agent.link import connection
from polyvisor.agent.link.connection import LauncherError, LauncherGone, Link, open_console
from polyvisor.drivers.pace import Deadline

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HELLO = {"hello": {"version": 1, "libvirtVersion": "9.0.0"}}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TIMEOUT", 0.2)


@asynccontextmanager
async def launcher(folder: Path, talk: Talk) -> AsyncIterator[Path]:
    """Play a launcher that talks as the test wants."""
    path = folder / "launcher.sock"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, path)
    async with server:
        yield path


def say(writer: asyncio.StreamWriter, message: object) -> None:
    writer.write((message if isinstance(message, bytes) else json.dumps(message).encode()) + b"\n")


def greeting(then: Talk) -> Talk:
    """Greet as one should, answer the first question for the state, then do something else."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        say(writer, HELLO)
        asked = json.loads(await reader.readline())
        say(writer, {"id": asked["id"], "result": {"state": "running", "reason": ""}})
        await then(reader, writer)

    return talk


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def connect(path: Path) -> Link:
    return await Link.connect(path, lambda: None)


async def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(LauncherGone, match="no launcher listens"):
        await connect(tmp_path / "launcher.sock")


async def test_one_that_hangs_before_its_greeting(tmp_path: Path) -> None:
    async with launcher(tmp_path, silence) as path:
        with pytest.raises(LauncherGone, match="no greeting"):
            await connect(path)


@pytest.mark.parametrize("line", [b"", b"{half", b"[1]", b"\xff\xfe", b"x" * 2 * 1024 * 1024])
async def test_one_that_greets_with_garbage(tmp_path: Path, line: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        say(writer, line)
        await reader.read()

    async with launcher(tmp_path, talk) as path:
        with pytest.raises(LauncherGone, match="no greeting"):
            await connect(path)


@pytest.mark.parametrize("hello", [{"hello": {"version": 99}}, {"hello": 1}, {"error": {"code": "version"}}])
async def test_one_that_speaks_another_version(tmp_path: Path, hello: object) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        say(writer, hello)

    async with launcher(tmp_path, talk) as path:
        with pytest.raises(LauncherError, match="protocol versions") as caught:
            await connect(path)
    assert caught.value.code == "version"


async def test_socket_of_another_user_is_not_talked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = bytearray()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read())

    monkeypatch.setattr(connection, "peer_of", lambda _: (4321, os.geteuid() + 1))
    async with launcher(tmp_path, talk) as path:
        with pytest.raises(LauncherError, match="process 4321 of user"):
            await connect(path)
    assert heard == b""


async def test_request_that_is_never_answered(tmp_path: Path) -> None:
    async with launcher(tmp_path, greeting(silence)) as path:
        one = await connect(path)
        with pytest.raises(LauncherError, match="did not answer to 'pause'"):
            await one.request("pause", seconds=0.05)
        assert not one.closed
        assert one.active
        await one.close()


@pytest.mark.parametrize("line", [b"{half", b"[1]", b"x" * 2 * 1024 * 1024, None])
async def test_garbage_or_an_end_in_the_middle_ends_the_link(tmp_path: Path, line: bytes | None) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        if line is not None:
            say(writer, line)
            await reader.read()

    told = asyncio.Event()
    async with launcher(tmp_path, greeting(talk)) as path:
        one = await Link.connect(path, told.set)
        told.clear()
        with pytest.raises(LauncherGone):
            await one.request("pause", seconds=5)
        async with asyncio.timeout(5):
            await told.wait()
        assert one.closed
        with pytest.raises(LauncherGone):
            await one.request("state")


async def test_answers_to_nobody_are_dropped_and_refusals_are_told(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = json.loads(await reader.readline())
        say(writer, {"id": 999, "result": {"state": "paused"}})
        say(writer, {"event": {"type": "of tomorrow"}})
        say(writer, {"id": asked["id"], "error": {"code": "no-domain", "message": "the domain is not running"}})
        await reader.read()

    async with launcher(tmp_path, greeting(talk)) as path:
        one = await connect(path)
        with pytest.raises(LauncherError, match="not running") as caught:
            await one.request("shutdown", seconds=5)
        assert caught.value.code == "no-domain"
        assert not one.closed
        await one.close()


async def test_console_of_one_that_hangs_or_refuses(tmp_path: Path) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        say(writer, HELLO)
        await reader.read()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        say(writer, HELLO)
        await reader.readline()
        say(writer, {"event": {"type": "state", "state": "shutoff"}})
        say(writer, {"id": 1, "error": {"code": "no-domain", "message": "the domain is not running"}})

    (tmp_path / "b").mkdir()
    async with launcher(tmp_path, hang) as path:
        with pytest.raises(LauncherGone, match="console cannot be opened"):
            await open_console(path)
    async with launcher(tmp_path / "b", refuse) as path:
        with pytest.raises(LauncherError, match="not running"):
            await open_console(path)


async def test_an_answer_that_takes_longer_on_a_slow_machine_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = asyncio.Event()
    loop = asyncio.get_running_loop()

    def pace() -> float:
        loop.call_soon_threadsafe(measured.set)
        return 50.0

    monkeypatch.setattr(connection, "Deadline", lambda seconds: Deadline(seconds, measure=pace))

    async def then(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = json.loads(await reader.readline())
        await measured.wait()
        say(writer, {"id": asked["id"], "result": {"state": "paused", "reason": ""}})
        await silence(reader, writer)

    async with launcher(tmp_path, greeting(then)) as path:
        one = await Link.connect(path, lambda: None)
        assert (await one.request("pause"))["state"] == "paused"
        with pytest.raises(LauncherError, match="did not answer"):
            await one.request("pause", seconds=0.01, exact=True)
        await one.close()
