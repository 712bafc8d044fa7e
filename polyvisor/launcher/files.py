"""The launcher's own files: lock, pid, durable state.

The state file is what remains when everything else died, so it is replaced by rename after an fsync of file and folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any


class Taken(Exception):
    """Another launcher works in this folder."""


def lock(folder: Path) -> int:
    """Take the folder for this process; the descriptor holds the lock until the process ends, however it ends."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Taken(f"another launcher already works in {folder}") from None
    return descriptor


def write_durably(path: Path, text: str) -> None:
    """Replace a file so that after a power cut it holds the old text or the new one."""
    part = path.with_name(f".{path.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, text.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    part.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_state(folder: Path) -> dict[str, Any]:
    """Return the last state that was written, or an empty mapping."""
    try:
        state = json.loads((folder / "state.json").read_text())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def write_pid(folder: Path) -> None:
    """Write ``launcher.pid``: process id and its start time in clock ticks, which together name one process."""
    start = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    write_durably(folder / "launcher.pid", f"{os.getpid()} {start}\n")


def now() -> str:
    """Return the time as RFC 3339 with microseconds."""
    seconds = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1e6):06d}Z"
