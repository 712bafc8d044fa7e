"""The console: all of it in a bounded log, and a client that sleeps never holds up the guest."""

from __future__ import annotations

import os
import pty
import selectors
import socket
import tty
from pathlib import Path

from polyvisor.launcher.console import BUFFER_BYTES, LOG_BYTES, Console


def _turn(selector: selectors.BaseSelector) -> None:
    for key, mask in selector.select(0.2):
        if key.fd in selector.get_map():
            key.data(mask)


def _console(folder: Path, **options: bool) -> tuple[Console, selectors.BaseSelector, int, list[str]]:
    selector = selectors.DefaultSelector()
    said: list[str] = []
    console = Console(folder, selector, said.append, **options)
    guest, terminal = pty.openpty()
    tty.setraw(terminal)
    console.follow(os.ttyname(terminal))
    return console, selector, guest, said


def test_both_ways_and_into_the_log(tmp_path: Path) -> None:
    console, selector, guest, _ = _console(tmp_path)
    ours, theirs = socket.socketpair()
    console.take(theirs, b"early", b"")
    _turn(selector)
    assert os.read(guest, 100) == b"early"
    os.write(guest, b"hello")
    _turn(selector)
    assert ours.recv(100) == b"hello"
    assert (tmp_path / "console.log").read_bytes() == b"hello"
    other, second = socket.socketpair()
    console.take(second, b"", b"")
    assert ours.recv(100) == b""
    console.finish()
    assert other.recv(100) == b""


def test_a_console_whose_output_is_not_to_be_kept_is_on_no_disk(tmp_path: Path) -> None:
    console, selector, guest, said = _console(tmp_path, log=False)
    ours, theirs = socket.socketpair()
    console.take(theirs, b"", b"")
    os.write(guest, b"secret")
    _turn(selector)
    assert ours.recv(100) == b"secret"
    console.finish()
    assert (list(tmp_path.iterdir()), said) == ([], [])


def test_log_is_rotated_and_a_sleeping_client_dropped(tmp_path: Path) -> None:
    console, selector, guest, said = _console(tmp_path)
    sleeper, theirs = socket.socketpair()
    console.take(theirs, b"", b"")
    line = b"x" * 1023 + b"\n"
    for _ in range(LOG_BYTES * 2 // len(line) + BUFFER_BYTES // len(line)):
        os.write(guest, line)
        _turn(selector)
    assert "console client too slow, dropped" in said
    sizes = [(tmp_path / name).stat().st_size for name in ("console.log", "console.log.1")]
    assert all(0 < size <= LOG_BYTES for size in sizes)
    sleeper.close()
    console.finish()
