"""The file that a memory dump becomes: made in a claim by the agent, and named only once it is whole.

The launcher never resolves a path in the claim, where another guest may have put links. It opens the file where
somebody shows it, by default as the agent has it open (``/proc/PID/fd/N``). What isn't obvious: the claim's folder
stays open as long, so the file gets its name even if the Pod that brought the claim is replaced meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from polyvisor.agent.files import safepath

SUFFIX = ".memory.dump"
PART = ".part"


def _nothing() -> None:
    """Nobody else was shown the file."""


@dataclass
class DumpFile:
    """An open folder and the new file in it. All of this blocks; ``hide`` takes it away from whom it was shown to."""

    folder: int
    name: str
    descriptor: int
    path: str
    hide: Callable[[], None] = _nothing

    def keep(self) -> None:
        """Give the file its name: it is whole."""
        os.fsync(self.descriptor)
        os.rename(self.name + PART, self.name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
        os.fsync(self.folder)

    def close(self) -> None:
        """Let go of the file; one that did not become whole is removed."""
        try:
            self.hide()
        finally:
            os.close(self.descriptor)
            try:
                safepath.remove(self.folder, self.name + PART)
            finally:
                os.close(self.folder)


def dump_file(folder: int, name: str, owner: int | None = None) -> DumpFile:
    """Make the file in an open folder, in place of the dump before: a claim has room for one."""
    for old in os.listdir(folder):
        if old.removesuffix(PART).endswith(SUFFIX):
            safepath.remove(folder, old)
    kept = os.dup(folder)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(name + PART, flags, 0o600, dir_fd=kept)
    except BaseException:
        os.close(kept)
        raise
    found = DumpFile(kept, name, file, f"/proc/{os.getpid()}/fd/{file}")
    try:
        if owner is not None:
            os.fchown(file, owner, owner)
    except BaseException:
        found.close()
        raise
    return found
