"""What is refused before anything is started: one message, what to do, and nothing left behind."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import sqlite3
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from polyvisor.standalone import preflight
from polyvisor.standalone.failure import NOT_PERMITTED, StartError
from polyvisor.standalone.state import AlreadyRunning, PidFile, StateFolder, running

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StateFolder:
    monkeypatch.setattr(preflight, "LONGEST_ROOT", 200)
    return StateFolder(tmp_path / "state")


def test_folder_is_made_private(folder: StateFolder) -> None:
    preflight.check_folder(folder)
    assert folder.root.stat().st_mode & 0o777 == 0o700
    assert list(folder.root.iterdir()) == []


def test_long_path() -> None:
    with pytest.raises(StartError, match="too long for Unix sockets"):
        preflight.check_folder(StateFolder(Path("/tmp/" + "x" * 60)))
    assert not Path("/tmp/" + "x" * 60).exists()


def test_a_file_in_the_way(folder: StateFolder) -> None:
    folder.root.write_text("")
    with pytest.raises(StartError, match="cannot be used"):
        preflight.check_folder(folder)


def test_full_disk(folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100, 99, 1 << 20))
    with pytest.raises(StartError, match="is full: 1 MiB left"):
        preflight.check_folder(folder)


@pytest.mark.parametrize(
    ("number", "said", "code"),
    [
        (errno.EACCES, "cannot be written", NOT_PERMITTED),
        (errno.ENOSPC, "is full", 1),
        (errno.EIO, "cannot be used", 1),
    ],
)
def test_errors_of_the_folder(number: int, said: str, code: int) -> None:
    failure = preflight.folder_failure(Path("/x"), OSError(number, os.strerror(number)))
    assert said in failure.message
    assert failure.code == code
    assert failure.hint


def test_missing_libvirt(monkeypatch: pytest.MonkeyPatch) -> None:
    preflight.check_libvirt()
    monkeypatch.setattr(preflight, "find_spec", lambda _: None)
    with pytest.raises(StartError, match="libvirt's Python binding is not installed") as caught:
        preflight.check_libvirt()
    assert "apt-get install" in caught.value.hint


@pytest.mark.parametrize("text", [b"no database at all" * 100, b""])
def test_database(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "db.sqlite"
    preflight.check_database(path)
    path.write_bytes(text)
    if not text:
        preflight.check_database(path)
        return
    with pytest.raises(StartError, match="cannot be used") as caught:
        preflight.check_database(path)
    assert f"mv {path}" in caught.value.hint


def test_damaged_pages(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (a TEXT)")
        connection.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 200)
    data = bytearray(path.read_bytes())
    data[8192:16384] = b"\xff" * 8192
    path.write_bytes(data)
    with pytest.raises(StartError, match=r"is damaged|cannot be used"):
        preflight.check_database(path)


def test_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StartError, match=f"port {port} on 127.0.0.1 is in use") as caught:
            preflight.listen(port, 0)
        assert "--port" in caught.value.hint
        with preflight.listen(0, port) as mine:
            assert mine.getsockname()[1] != port


def test_lock_names_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "up.pid"
    assert running(path) is None
    first, second = PidFile(path), PidFile(path)
    first.acquire()
    info: dict[str, Any] = {"pid": os.getpid(), "url": "https://here"}
    first.write(info)
    assert running(path) == info
    with pytest.raises(AlreadyRunning, match=str(os.getpid())):
        second.acquire()
    first.release()
    assert running(path) is None
    second.acquire()
    second.release()
