"""The container that logs a guest's console, its script run as the container would."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from polyvisor.controllers.console_log import SCRIPT, console_log
from tests.needs import need


def follow(log: Path) -> subprocess.Popen[bytes]:
    """Follow a log; what is printed comes through a pipe."""
    need("busybox")
    command = ["/bin/busybox", "sh", "-c", SCRIPT, str(log)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    arguments = [b"/bin/busybox", b"tail"]
    while arguments not in [
        Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[:2] for child in children.read_text().split()
    ]:
        assert process.poll() is None
    return process


def end(process: subprocess.Popen[bytes]) -> bytes:
    """Ask all processes to end, as the agent does when a machine is over; return what was still printed."""
    os.killpg(process.pid, signal.SIGTERM)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    return printed


def said(process: subprocess.Popen[bytes], text: bytes) -> None:
    assert process.stdout
    assert os.read(process.stdout.fileno(), 1000) == text


def test_a_guests_last_words_are_logged(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_bytes(b"first\n")
    process = follow(log)
    said(process, b"first\n")
    with log.open("ab") as file:
        file.write(b"last words\n")
    assert end(process) == b"last words\n"


def test_what_a_guest_says_after_its_log_was_put_aside_is_logged(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_bytes(b"")
    process = follow(log)
    (tmp_path / "new").write_bytes(b"new\n")
    log.write_bytes(b"known\n")
    said(process, b"known\n")
    log.rename(tmp_path / "console.log.1")
    (tmp_path / "new").rename(log)
    assert end(process) == b"new\n"


@pytest.mark.parametrize("written", [b"", None])
def test_a_machine_that_said_nothing_ends_as_well(tmp_path: Path, written: bytes | None) -> None:
    log = tmp_path / "console.log"
    if written is not None:
        log.write_bytes(written)
    process = follow(log)
    assert end(process) == b""


@pytest.mark.parametrize("privileged", [True, False])
def test_it_may_only_read(privileged: bool) -> None:
    container = console_log("image", {}, privileged=privileged)
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert [mount["readOnly"] for mount in container["volumeMounts"]] == [True]
