"""Ending what a launcher that was killed has left running for itself.

libvirt tries what a hypervisor can do by starting it without a guest. Such a trial is a daemon, which nobody ends if
the launcher is killed meanwhile; it is known by a path below the launcher's folder among its arguments.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


def end_strays(folder: Path, prefixes: Sequence[str]) -> list[int]:
    """End every process with an argument that begins with one of ``prefixes`` below ``folder``; return which."""
    paths = tuple(os.fsencode(folder / prefix) for prefix in prefixes)
    ended = []
    for process in Path("/proc").glob("[0-9]*") if paths else ():
        with suppress(OSError):  # it has ended, or is not ours
            if any(argument.startswith(paths) for argument in (process / "cmdline").read_bytes().split(b"\0")):
                os.kill(int(process.name), signal.SIGKILL)
                ended.append(int(process.name))
    return ended
