"""VMDK with everything in one file (Virtual Disk Format 5.0, section "Hosted Sparse Extent").

What isn't obvious: a header with a capacity of 0 makes readers take the description inside for the image, and that
names files by any path. And qemu-img looks for the name of a parent anywhere in the 20 sectors behind the header,
wherever the header says that the description is (block/vmdk.c, vmdk_parent_open), so that is where it must not stand.
"""

from __future__ import annotations

import re

from polyvisor.agent.images.examining.reading import LITTLE, Reading, Unfit

SECTOR = 512
HEADER = "<4sIIQQQQIQQQB"
AT_END = (1 << 64) - 1
FOOTER = 1024
"""How far before the end the second header of a stream is."""
DESCRIPTION = (SECTOR, 20 * SECTOR)
KINDS = (b"monolithicSparse", b"streamOptimized")
MAX_GRAIN = 0x200000 // SECTOR
FLATTEN = "flatten it with qemu-img convert"


def size_of(image: Reading) -> int:
    """Return the size of the disk."""
    capacity, directory = _header(image, 0)
    _description(image.some(*DESCRIPTION))
    at, length = image.fields("<QQ", 28, "header")
    if at:
        if length * SECTOR > DESCRIPTION[1] * 4:
            raise Unfit(f"its description has {length} sectors")
        _description(image.bytes(at * SECTOR, length * SECTOR, "description"))
    if directory == AT_END and _header(image, image.length - FOOTER)[0] != capacity:
        raise Unfit("its two headers tell of different sizes")
    return capacity * SECTOR


def _header(image: Reading, place: int) -> tuple[int, int]:
    magic, version, _, capacity, grain, _, _, entries, _, directory, _, _ = image.fields(HEADER, place, "header")
    if magic != b"KDMV":
        raise Unfit("its second header is missing; it is cut off or damaged")
    if version not in (1, 2, 3):
        raise Unfit(f"it is of version {version}; 1 to 3 are supported")
    if not capacity:
        raise Unfit("it has a capacity of 0, so its data is in other files, which its description names")
    if not 0 < grain <= MAX_GRAIN or grain & (grain - 1) or not 0 < entries <= 512:
        raise Unfit(f"its grains have {grain} sectors, its tables {entries} entries")
    if capacity > 1 << 50:
        raise Unfit(f"it declares a disk of {capacity} sectors")
    if directory != AT_END:
        _tables(image, directory, capacity, grain, entries)
    return int(capacity), int(directory)


def _tables(image: Reading, directory: int, capacity: int, grain: int, entries: int) -> None:
    tables = -(-capacity // (grain * entries))
    seen: set[int] = set()
    for place in image.table("I", LITTLE, directory * SECTOR, tables, "table of tables"):
        if not place:
            continue
        if place in seen:
            raise Unfit("two parts of its disk have one table")
        seen.add(place)
        last = max(image.table("I", LITTLE, place * SECTOR, entries, "table of grains")) * SECTOR
        if last >= image.length:
            raise Unfit(f"it is cut off: data is expected at byte {last}, and it ends at {image.length}; copy it again")


def _description(text: bytes) -> None:
    if b"parentFileNameHint" in text:
        raise Unfit(f"it names a backing file, its parent; {FLATTEN}")
    if (found := re.search(rb"parentCID\s*=\s*([0-9a-fA-F]+)", text)) and found[1].lower() != b"ffffffff":
        raise Unfit(f"it is a part of another disk, its parent; {FLATTEN}")
    if (found := re.search(rb"createType\s*=\s*\"([^\"\n]*)\"", text)) and found[1] not in KINDS:
        raise Unfit(f"it is of the kind {found[1][:40].decode(errors='replace')}, whose data is in other files")
    if len(re.findall(rb"^\s*(?:RW|RDONLY|NOACCESS)\s+\d+", text, re.MULTILINE)) > 1:
        raise Unfit(f"it names several files for its data; {FLATTEN}")
