"""VDI, the Virtual Disk Image (block/vdi.c in the sources of qemu-img)."""

from __future__ import annotations

from polyvisor.agent.images.examining.reading import LITTLE, Reading, Unfit

VERSION = 0x00010001
KINDS = (1, 2)
"""Dynamic and fixed; 3 and 4 are layers above other images."""
FREE = 0xFFFFFFFE
"""This entry and the next say that a block is not there."""
MAX_BLOCKS = 1 << 24


def size_of(image: Reading) -> int:
    """Return the size of the disk."""
    (version,) = image.fields("<I", 0x44, "header")
    if version != VERSION:
        raise Unfit(f"it is of version {version:#x}; {VERSION:#x} is supported")
    (kind,) = image.fields("<I", 0x4C, "header")
    if kind not in KINDS:
        raise Unfit("it is a layer above another image; merge them with VBoxManage clonemedium")
    table_at, data_at = image.fields("<II", 0x154, "header")
    sector, _, size, block, extra, blocks, used = image.fields("<IIQIIII", 0x168, "header")
    linked, parent = image.fields("<16s16s", 0x1A8, "header")
    if any(linked) or any(parent):
        raise Unfit("it is a layer above another image; merge them with VBoxManage clonemedium")
    if sector != 512 or block != 1 << 20 or extra:
        raise Unfit(f"its sectors have {sector} bytes, its blocks {block} and {extra} more; 512, {1 << 20}, 0 wanted")
    if blocks > MAX_BLOCKS or size > blocks * block:
        raise Unfit(f"it has {blocks} blocks for a disk of {size} bytes")
    image.inside(data_at, used * block, "data")
    table = image.table("I", LITTLE, table_at, blocks, "table of blocks")
    if max((entry for entry in table if entry < FREE), default=-1) >= used:
        raise Unfit(f"its table names blocks beyond the {used} that it has")
    return int(size)
