"""Copying a disk image with its holes, from one open file to another; where the file system can, no data moves."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

STEP = 64 * 1024 * 1024


def only_zeros(data: bytes) -> bool:
    """Return whether there is nothing but zeros, which a sparse file need not hold."""
    return data == bytes(len(data))  # a comparison ends at the first byte that differs; counting zeros reads them all


def copy_sparse(source: int, target: int, progress: Callable[[float], None] = lambda _: None) -> None:
    """Copy all of ``source`` into the empty file ``target``; ``progress`` is told how much is done, from 0 to 1."""
    size = os.lseek(source, 0, os.SEEK_END)
    os.ftruncate(target, size)
    place = 0
    while place < size:
        try:
            begin = os.lseek(source, place, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole follows
                break
            raise
        place = os.lseek(source, begin, os.SEEK_HOLE)
        while begin < place:
            begin += _copied(source, target, begin, min(STEP, place - begin))
            progress(begin / size)
    progress(1.0)


def _copied(source: int, target: int, place: int, count: int) -> int:
    try:
        copied = os.copy_file_range(source, target, count, place, place)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        copied = os.pwrite(target, os.pread(source, min(count, 1024 * 1024), place), place)
    if copied == 0:
        raise OSError(errno.EIO, "the source became shorter while it was copied")
    return copied
