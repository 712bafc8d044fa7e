"""Noticing that files, device nodes or sockets come, go or are replaced, by looking once a second.

Looking is simpler than inotify and misses nothing: that needs a watch on each folder above a path, loses them when
such a folder is itself replaced or mounted over, and the paths in question live in just such places (``/dev``, the
kubelet's folders). A second of delay hurts nobody, and a look at ten paths takes some microseconds. All who look do so
at the same moments, so that the process wakes up once.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

LOOK_SECONDS = 1.0
Seen = tuple[tuple[int, ...] | None, ...]


def look(paths: Iterable[str | os.PathLike[str]]) -> Seen:
    """Return what tells whether any of the paths has become something else."""
    return tuple(_identity(path) for path in paths)


async def changes(
    paths: Iterable[str | os.PathLike[str]], seen: Seen | None = None, seconds: float = LOOK_SECONDS
) -> AsyncIterator[Seen]:
    """Give what is seen, whenever it is not what was seen before; at first what ``seen`` says, if it is given."""
    paths = tuple(paths)
    seen = look(paths) if seen is None else seen
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(seconds - loop.time() % seconds)
        found = look(paths)
        if found != seen:
            seen = found
            yield seen


def _identity(path: str | os.PathLike[str]) -> tuple[int, ...] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    what = found.st_dev, found.st_ino, found.st_mode, found.st_rdev, found.st_uid, found.st_gid
    changes = stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)
    return (*what, found.st_size, found.st_mtime_ns) if changes else what
