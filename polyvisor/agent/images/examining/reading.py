"""Reading an image at offsets that the image itself chose: every one is checked against the file's length."""

from __future__ import annotations

import os
import stat
import struct
from array import array
from typing import Any

MAX_VIRTUAL = 1 << 46
"""Bytes of the largest disk that is accepted: 64 TiB."""
MAX_TABLE = 64 * 1024 * 1024
"""Bytes of one table that are read."""
MAX_LENGTH = 1 << 62
BIG, LITTLE = ">", "<"


class Unfit(Exception):
    """An image is not what is accepted; the message says why, and what to do where something can be done."""


class Reading:
    """An open file of known length. A block device has the length of the device."""

    def __init__(self, descriptor: int) -> None:
        info = os.fstat(descriptor)
        self._descriptor = descriptor
        self.length = info.st_size if not stat.S_ISBLK(info.st_mode) else os.lseek(descriptor, 0, os.SEEK_END)

    def head(self, size: int) -> bytes:
        """Return up to ``size`` bytes from the beginning."""
        return os.pread(self._descriptor, size, 0)

    def some(self, offset: int, size: int) -> bytes:
        """Return what there is of ``size`` bytes at ``offset``."""
        return os.pread(self._descriptor, size, offset) if 0 <= offset < self.length else b""

    def bytes(self, offset: int, size: int, what: str) -> bytes:
        """Return ``size`` bytes at ``offset``; ``what`` names them if the file ends before."""
        self.inside(offset, size, what)
        if size > MAX_TABLE:
            raise Unfit(f"its {what} has {size} bytes; up to {MAX_TABLE} are accepted")
        found = os.pread(self._descriptor, size, offset)
        if len(found) != size:
            raise Unfit(f"it is cut off in its {what}")
        return found

    def inside(self, offset: int, size: int, what: str) -> None:
        """Check that a part lies within the file."""
        if not 0 <= offset <= offset + size <= self.length:
            raise Unfit(f"it is cut off or damaged: its {what} would end at byte {offset + size} of {self.length}")

    def fields(self, form: str, offset: int, what: str) -> tuple[Any, ...]:
        """Return the values that ``struct`` unpacks at ``offset``."""
        return struct.unpack(form, self.bytes(offset, struct.calcsize(form), what))

    def table(self, code: str, order: str, offset: int, entries: int, what: str) -> array[int]:
        """Return a table of integers (``I`` or ``Q``) in a byte order."""
        found = array(code)
        found.frombytes(self.bytes(offset, entries * found.itemsize, what))
        if (order == BIG) == (struct.pack("=H", 1) == struct.pack("<H", 1)):
            found.byteswap()
        return found
