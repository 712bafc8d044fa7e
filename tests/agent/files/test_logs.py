"""Logs are followed over their writer's rotation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from polyvisor.agent.files import logs
from polyvisor.agent.files.logs import RotatedLog, read_log


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "POLL_SECONDS", 0.01)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "machine" / "console.log"
    path.parent.mkdir()
    path.write_bytes(b"one\n")
    return path


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def rotate(path: Path, data: bytes = b"") -> None:
    path.replace(path.with_name("console.log.1"))
    path.write_bytes(data)


async def following(chunks: AsyncIterator[bytes]) -> bytes:
    async with asyncio.timeout(10):
        return await anext(chunks)


async def test_following_goes_on_after_each_rotation(log: Path) -> None:
    chunks = read_log(log, follow=True)
    assert await following(chunks) == b"one\n"
    append(log, b"two\n")
    rotate(log, b"three\n")
    assert await following(chunks) == b"two\n"
    assert await following(chunks) == b"three\n"
    rotate(log)
    append(log, b"four\n")
    assert await following(chunks) == b"four\n"
    append(log, b"five\n")
    rotate(log, b"six\n")
    rotate(log, b"seven\n")
    assert [await following(chunks) for _ in range(3)] == [b"five\n", b"six\n", b"seven\n"]
    append(log, b"last\n")
    assert await following(chunks) == b"last\n"
    for path in list(log.parent.iterdir()):
        path.unlink()
    log.parent.rmdir()
    with pytest.raises(StopAsyncIteration):
        await following(chunks)


async def test_all_of_a_rotated_log_is_given_once(log: Path) -> None:
    rotate(log, b"two\nthree\n")
    assert b"".join([chunk async for chunk in read_log(log)]) == b"one\ntwo\nthree\n"


@pytest.mark.parametrize(
    ("lines", "wanted"), [(0, b""), (1, b"three\n"), (3, b"one\ntwo\nthree\n"), (9, b"one\ntwo\nthree\n")]
)
async def test_last_lines_reach_into_the_older_file(log: Path, lines: int, wanted: bytes) -> None:
    rotate(log, b"two\nthree\n")
    assert b"".join([chunk async for chunk in read_log(log, tail=lines)]) == wanted


def test_log_that_is_not_there_yet(log: Path) -> None:
    log.unlink()
    reader = RotatedLog(log)
    assert reader.read() == b""
    log.write_bytes(b"now\n")
    assert reader.read() == b"now\n"
    assert reader.read() == b""
    reader.close()


def test_what_is_written_just_before_a_rotation_is_not_lost(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = RotatedLog(log)
    assert reader.read() == b"one\n"
    find = reader._find

    def late() -> bool:
        monkeypatch.undo()
        append(log, b"late\n")
        rotate(log, b"new\n")
        return find()

    monkeypatch.setattr(reader, "_find", late)
    assert reader.read() == b"late\n"
    assert reader.read() == b"new\n"
    reader.close()
