"""Reading a log that its writer rotates: ``X`` is renamed to ``X.1`` when it is full, and a new ``X`` begins.

A reader holds the file that it reads, not its name; when that file is at its end and the name means another one, it
goes on there, by way of ``X.1`` if the writer rotated twice meanwhile. So nothing is lost or told twice unless two
whole files were written between two looks.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from polyvisor.agent.errors import UnsafePath
from polyvisor.agent.files import safepath
from polyvisor.api.names import CONSOLE_CONTAINER

CONSOLE, LAUNCHER = "console.log", "launcher.log"
CHUNK = 64 * 1024
POLL_SECONDS = 0.5


def file_of(container: str) -> str:
    """Return the name of the file in which the agent finds what a launcher Pod's container wrote."""
    return CONSOLE if container == CONSOLE_CONTAINER else LAUNCHER


class RotatedLog:
    """A position in a log. Blocking calls, but short."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._older = path.with_name(f"{path.name}.1")
        self._queue: list[BinaryIO] = []
        self._last: tuple[int, int] | None = None

    def read(self) -> bytes:
        """Return what follows, up to a chunk; nothing if nothing follows yet."""
        while True:
            if not self._queue and not self._find():
                return b""
            if data := self._queue[0].read(CHUNK):
                return data
            if len(self._queue) > 1:
                self._queue.pop(0).close()
            elif not self._find():
                return b""
            # Else once more: what was written between the last read and the rotation is still in the old file.

    def tail(self, lines: int) -> bytes:
        """Return the last lines of all that there is, and stand behind them."""
        text = b"".join(iter(self.read, b""))
        return b"".join(text.splitlines(keepends=True)[-lines:]) if lines > 0 else b""

    def close(self) -> None:
        """Let go of the files."""
        for file in self._queue:
            file.close()
        self._queue.clear()

    def _find(self) -> bool:
        """Queue the files that follow the last one of the queue; return whether there are any."""
        found: list[BinaryIO] = []
        newest = self._last
        for path in (self._path, self._older):  # this order, so that a rotation in between hides no file
            try:
                with safepath.opened_root(path.parent) as folder:
                    file = os.fdopen(safepath.open_file(folder, [path.name]), "rb")
            except (FileNotFoundError, UnsafePath):  # the writer is not believed: what is no file of its is not there
                continue
            status = os.fstat(file.fileno())
            identity = (status.st_dev, status.st_ino)
            if identity == self._last or (found and identity == newest):
                file.close()
                break
            if not found:
                newest = identity
            found.insert(0, file)
        self._queue += found
        self._last = newest
        return bool(found)


async def read_log(path: Path, *, follow: bool = False, tail: int | None = None) -> AsyncIterator[bytes]:
    """Give a log from the beginning or from its last lines; with ``follow`` go on until its folder is gone."""
    log = RotatedLog(path)
    try:
        if tail is not None:
            yield await asyncio.to_thread(log.tail, tail)
        while True:
            there = path.parent.exists()
            if data := await asyncio.to_thread(log.read):
                yield data
            elif not follow or not there:
                return
            else:
                await asyncio.sleep(POLL_SECONDS)
    finally:
        log.close()
