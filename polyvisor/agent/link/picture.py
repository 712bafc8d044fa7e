"""Pictures of a screen: what hypervisors make, as PNG.

PNG is what KubeVirt's clients expect. A portable pixmap is wrapped as it is, a scanline at a time; nothing here looks
at colours.
"""

from __future__ import annotations

import re
import struct
import zlib

from polyvisor.agent.link.connection import LauncherError

PNG = b"\x89PNG\r\n\x1a\n"
PIXMAP = re.compile(rb"P6\s+(?:#[^\n]*\n\s*)*(\d{1,5})\s+(\d{1,5})\s+255\s")


def to_png(data: bytes, kind: str) -> bytes:
    """Return the picture as PNG; ``kind`` is its type as libvirt named it."""
    if data.startswith(PNG):
        return data
    head = PIXMAP.match(data)
    if head is None:
        raise LauncherError(f"the hypervisor made a screenshot of type {kind}, which cannot be shown as PNG", "picture")
    width, height = int(head[1]), int(head[2])
    size, start = 3 * width, head.end()
    if len(data) - start < size * height:
        raise LauncherError("the hypervisor's screenshot is not whole", "picture")
    lines = (b"\0" + data[start + size * number : start + size * (number + 1)] for number in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"".join(lines), 6)
    return PNG + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
