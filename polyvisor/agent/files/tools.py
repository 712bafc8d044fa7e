"""Runs the few outside programs that prepare disks, with one clear error for each way that they can fail."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from polyvisor.agent.errors import AgentError, full_disk
from polyvisor.prerequisites import not_installed

TIMEOUT = 1800.0


def run(arguments: Sequence[str | Path], doing: str, folder: Path) -> None:
    """Run a program for what it does; see :func:`output`."""
    output(arguments, doing, folder)


def output(arguments: Sequence[str | Path], doing: str, folder: Path) -> bytes:
    """Run a program and return what it prints.

    No secret may stand in ``arguments``, for every process of the machine can read them.
    """
    program = str(arguments[0])
    found = shutil.which(program)
    if found is None:
        raise AgentError(f"{doing}: {not_installed(program)}")
    try:
        done = subprocess.run(
            [found, *map(str, arguments[1:])],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise AgentError(f"{doing}: {program} did not finish within {TIMEOUT:.0f} s") from None
    if done.returncode == 0:
        return done.stdout
    said = done.stderr.decode(errors="replace").strip()
    if "No space left on device" in said or "Disk quota exceeded" in said:
        raise full_disk(folder, doing)
    last = said.splitlines()[-1] if said else f"exit code {done.returncode}"
    raise AgentError(f"{doing}: {last[:300]}")
