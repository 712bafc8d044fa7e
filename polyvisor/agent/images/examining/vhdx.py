"""VHDX ([MS-VHDX]). The tables of blocks are checked by ``qemu-img check``; here, that all of it is in one file."""

from __future__ import annotations

import uuid

from polyvisor.agent.images.examining.reading import Reading, Unfit

KIB = 1024
HEADERS = (64 * KIB, 128 * KIB)
REGIONS = 192 * KIB
METADATA = uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e").bytes_le
BLOCKS = uuid.UUID("2dc27766-f623-4200-9d64-115e9bfd4a08").bytes_le
PARAMETERS = uuid.UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b").bytes_le
SIZE = uuid.UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8").bytes_le
PARENT = uuid.UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c").bytes_le
HAS_PARENT = 2
MAX_ENTRIES = 2047


def size_of(image: Reading) -> int:
    """Return the size of the disk."""
    for place in HEADERS:
        mark, log = image.fields("<4s44x16s", place, "header")
        if mark == b"head" and any(log):
            raise Unfit("it was not closed and has a log to be replayed; open it once where it was made")
    regions = _regions(image)
    if METADATA not in regions or BLOCKS not in regions:
        raise Unfit("it has no table of blocks or no metadata")
    for place, length in regions.values():
        image.inside(place, length, "regions")
    items = _items(image, regions[METADATA][0])
    if PARENT in items:
        raise Unfit("it names a parent image; merge them with qemu-img convert")
    if PARAMETERS not in items or SIZE not in items:
        raise Unfit("it does not tell its size")
    _, flags = image.fields("<II", items[PARAMETERS], "metadata")
    if flags & HAS_PARENT:
        raise Unfit("it is a layer above another image; merge them with qemu-img convert")
    return int(image.fields("<Q", items[SIZE], "metadata")[0])


def _regions(image: Reading) -> dict[bytes, tuple[int, int]]:
    mark, _, many = image.fields("<4sII", REGIONS, "regions")
    if mark != b"regi" or many > MAX_ENTRIES:
        raise Unfit("its table of regions is damaged")
    found = [image.fields("<16sQI", REGIONS + 16 + 32 * number, "regions") for number in range(many)]
    return {guid: (place, length) for guid, place, length in found}


def _items(image: Reading, base: int) -> dict[bytes, int]:
    mark, many = image.fields("<8s2xH", base, "metadata")
    if mark != b"metadata" or many > MAX_ENTRIES:
        raise Unfit("its metadata is damaged")
    found = [image.fields("<16sI", base + 32 + 32 * number, "metadata") for number in range(many)]
    return {guid: base + place for guid, place in found}
