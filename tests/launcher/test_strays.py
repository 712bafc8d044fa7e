"""What a killed launcher has left running is ended, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from polyvisor.launcher.strays import end_strays

WAITS = [sys.executable, "-c", "import sys; print(1, flush=True); sys.stdin.read()"]


def test_a_stray_is_known_by_its_arguments(tmp_path: Path) -> None:
    arguments = [f"{tmp_path}/tries-7/pid", f"{tmp_path}/guest", f"{tmp_path}2/tries-7/pid", f"--of={tmp_path}/tries-7"]
    running = [
        subprocess.Popen([*WAITS, argument], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for argument in arguments
    ]
    for process in running:
        assert process.stdout
        assert process.stdout.readline() == b"1\n"
    assert end_strays(tmp_path, ["tries-"]) == [running[0].pid]
    assert end_strays(tmp_path, []) == []
    assert [process.communicate(b"")[0] for process in running] == [b""] * 4
    assert [process.returncode for process in running] == [-9, 0, 0, 0]
