"""What layers are compressed with: gzip, zstd or nothing, told by the first bytes and not by what a manifest says."""

from __future__ import annotations

import gzip
import sys
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from polyvisor.agent.errors import ImageError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"


@contextmanager
def decompressed(blob: BinaryIO) -> Iterator[BinaryIO]:
    """Give the content of a blob; one that is cut off or garbled is an :class:`ImageError` while it is read."""
    magic = blob.read(4)
    blob.seek(0)
    try:
        if magic.startswith(GZIP):
            with gzip.GzipFile(fileobj=blob, mode="rb") as content:
                yield cast(BinaryIO, content)
        elif magic == ZSTD:
            with zstd.ZstdFile(blob) as unpacked:
                yield cast(BinaryIO, unpacked)
        else:
            yield blob
    except (EOFError, gzip.BadGzipFile, zlib.error, zstd.ZstdError, tarfile.ReadError) as error:
        raise ImageError(f"a layer cannot be unpacked: {error}; copy the image again") from error
