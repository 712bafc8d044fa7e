"""VHD with a dynamic table ("Virtual Hard Disk Image Format Specification", Microsoft, 2006).

A fixed VHD has no mark at its beginning and is a raw disk with 512 bytes behind it.
"""

from __future__ import annotations

from polyvisor.agent.images.examining.reading import BIG, Reading, Unfit

FIXED, DYNAMIC = 2, 3
SECTOR = 512
NOWHERE = 0xFFFFFFFF
MAX_BLOCK = 1 << 28


def size_of(image: Reading) -> int:
    """Return the size of the disk, or the larger where the two that the format has differ."""
    _, header_at = image.fields(">IQ", 12, "footer")
    size, cylinders, heads, sectors, kind = image.fields(">QHBBI", 48, "footer")
    if kind != DYNAMIC:
        raise Unfit("it is a layer above another image, or of an unknown kind; merge them with qemu-img convert")
    mark, table_at, _, entries, block = image.fields(">8s8xQIII", header_at, "header")
    if mark != b"cxsparse":
        raise Unfit("its header is damaged")
    (parent,) = image.fields("16s", header_at + 40, "header")
    locators = image.bytes(header_at + 576, 8 * 24, "header")
    if any(parent) or any(locators):
        raise Unfit("it names a parent image; merge them with qemu-img convert")
    if not SECTOR <= block <= MAX_BLOCK or block & (block - 1):
        raise Unfit(f"its blocks have {block} bytes")
    size = max(size, cylinders * heads * sectors * SECTOR)
    if size > entries * block:
        raise Unfit(f"it has {entries} blocks for a disk of {size} bytes")
    table = image.table("I", BIG, table_at, entries, "table of blocks")
    last = max((entry for entry in table if entry != NOWHERE), default=0)
    bitmap = -(-block // SECTOR // 8 // SECTOR) * SECTOR
    if last:
        image.inside(last * SECTOR, bitmap + block, "data")
    return int(size)
