"""The program that does nothing but wait, on this machine."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
from pathlib import Path

import pytest

from polyvisor.launcher.waiting import BASE, HEADERS, MACHINES, main, program

UNSHARE = ("unshare", "--pid", "--fork", "--kill-child")


@pytest.fixture
def waits(tmp_path: Path) -> Path:
    path = tmp_path / "waits"
    assert main([str(path)]) == 0
    return path


def pid1_of(parent: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    while True:
        for child in children.read_text().split():
            if (Path("/proc") / child / "comm").read_text().strip() == "waits":
                return int(child)


def sleeps(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def test_it_ends_well_when_it_is_asked_to(waits: Path) -> None:
    with subprocess.Popen([waits]) as process:
        while not sleeps(process.pid):
            pass
        process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGCONT)
        while not sleeps(process.pid):
            pass
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)
        process.terminate()
        assert process.wait(20) == 0


@pytest.mark.root
def test_so_it_does_as_the_first_process_of_a_container(waits: Path) -> None:
    with subprocess.Popen([*UNSHARE, waits]) as parent:
        first = pid1_of(parent)
        while not sleeps(first):
            pass
        os.kill(first, signal.SIGTERM)
        assert parent.wait(20) == 0


@pytest.mark.parametrize("machine", MACHINES)
def test_the_file_is_one_segment_of_instructions_and_their_mask(machine: str) -> None:
    found = program(machine)
    number, code = MACHINES[machine]
    assert found[:4] == b"\x7fELF"
    assert struct.unpack_from("<HHIQ", found, 16) == (2, number, 1, BASE + HEADERS)
    assert struct.unpack_from("<QQ", found, 64 + 32) == (len(found), len(found))
    assert found[HEADERS:] == code + struct.pack("<Q", 1 << (signal.SIGTERM - 1))


def test_a_machine_that_it_is_not_written_for_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "h", "6", "1", "riscv64")))
    assert main([str(tmp_path / "waits")]) == 1
    assert "this machine is riscv64" in capsys.readouterr().err
