"""Unpacking what arrives in pieces (gzip, xz, zstd), a few megabytes at a time however much a piece unpacks to."""

from __future__ import annotations

import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from polyvisor.agent.images.compression import GZIP, ZSTD

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

XZ = b"\xfd7zXZ\0"
STEP = 4 * 1024 * 1024
BROKEN = (zlib.error, lzma.LZMAError, zstd.ZstdError, EOFError)
"""What an unpacker raises at data that is damaged."""


class Unpacking(Protocol):
    """Takes packed pieces, gives unpacked ones."""

    whole: bool
    """Whether what came so far is complete."""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Unpack the next piece."""


def unpacking(head: bytes) -> Unpacking | None:
    """Return what unpacks data that begins so; None if it is not packed."""
    if head.startswith(GZIP):
        return _Zlib()
    if head.startswith(XZ):
        return _Modern(lzma.LZMADecompressor)
    if head.startswith(ZSTD):
        return _Modern(zstd.ZstdDecompressor)
    return None


class _Zlib(Unpacking):
    def __init__(self) -> None:
        self._one = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self.whole = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        while chunk:
            if self._one.eof:
                if not chunk.strip(b"\0"):
                    return
                self._one = zlib.decompressobj(zlib.MAX_WBITS | 16)  # files may be several, one after the other
            yield self._one.decompress(chunk, STEP)
            chunk = self._one.unused_data if self._one.eof else self._one.unconsumed_tail
            self.whole = self._one.eof


class _Modern(Unpacking):
    """For xz and zstd, whose modules are alike."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._one = make()
        self.whole = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        while True:
            if self._one.eof:
                if not chunk.strip(b"\0"):
                    return
                self._one = self._make()
            yield self._one.decompress(chunk, STEP)
            self.whole = self._one.eof
            chunk = self._one.unused_data if self._one.eof else b""
            if not self._one.eof and self._one.needs_input:
                return
