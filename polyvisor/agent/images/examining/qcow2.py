"""qcow2 (docs/interop/qcow2.txt in the sources of qemu-img): every cluster named in the tables has to be in the file.

What isn't obvious: each table is read once, and one that two entries name is refused, or a file of some kilobytes
could have terabytes of tables read.
"""

from __future__ import annotations

from polyvisor.agent.images.examining.reading import BIG, Reading, Unfit

FLATTEN = "flatten it with qemu-img convert"
CORRUPT, DATA_FILE, COMPRESSION, EXTENDED = 1 << 1, 1 << 2, 1 << 3, 1 << 4
KNOWN = 1 | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED
DATA_FILE_NAME = 0x44415441
ENCRYPTION = 0x0537BE77
MAX_EXTENSIONS = 64
MAX_L1_BYTES = 32 * 1024 * 1024
"""The limit of qemu-img (QCOW_MAX_L1_SIZE)."""
MAX_TABLES = 1 << 30
"""Bytes of all tables of clusters: enough for 8 TiB in clusters of the usual 64 KiB."""
OFFSET = 0x00FFFFFFFFFFFE00
COMPRESSED = 1 << 62


def size_of(image: Reading) -> int:
    """Return the size of the disk."""
    if image.length < 72:
        raise Unfit("its header is cut off")
    version, backing = image.fields(">IQ", 4, "header")
    if version not in (2, 3):
        raise Unfit(f"it is of version {version}; 2 and 3 are supported")
    if backing:
        raise Unfit(f"it names a backing file; {FLATTEN}")
    (bits, size, encrypted, l1_entries, l1_at, refcounts_at, refcount_clusters, snapshots) = image.fields(
        ">IQIIQQII", 20, "header"
    )
    if encrypted:
        raise Unfit("it is encrypted; decrypt it with qemu-img convert")
    if snapshots:
        raise Unfit(f"it holds {snapshots} snapshots; {FLATTEN}")
    if not 9 <= bits <= 21:
        raise Unfit(f"its clusters have 2 to the power of {bits} bytes; 9 to 21 are supported")
    extended = _features(image, version)
    cluster = 1 << bits
    image.inside(refcounts_at, refcount_clusters << bits, "table of reference counts")
    _tables(image, cluster, size, l1_at, l1_entries, 16 if extended else 8)
    return int(size)


def _features(image: Reading, version: int) -> bool:
    """Check features and extensions; return whether entries of tables have sixteen bytes."""
    if version == 2:
        _extensions(image, 72)
        return False
    features, length = *image.fields(">Q", 72, "header"), *image.fields(">I", 100, "header")
    if features & DATA_FILE:
        raise Unfit(f"its data is in another file; {FLATTEN}")
    if features & CORRUPT:
        raise Unfit("it is marked as corrupt; repair it with qemu-img check -r all")
    if features & ~KNOWN:
        raise Unfit(f"it needs features that are not known here: {features & ~KNOWN:#x}")
    if not 104 <= length <= 4096:
        raise Unfit(f"its header has {length} bytes")
    _extensions(image, length)
    return bool(features & EXTENDED)


def _extensions(image: Reading, place: int) -> None:
    for _ in range(MAX_EXTENSIONS):
        if len(image.some(place, 8)) < 8:
            return
        kind, length = image.fields(">II", place, "header's extensions")
        if kind == 0:
            return
        if kind == DATA_FILE_NAME:
            raise Unfit(f"it names a file for its data; {FLATTEN}")
        if kind == ENCRYPTION:
            raise Unfit("it is encrypted; decrypt it with qemu-img convert")
        image.inside(place + 8, length, "header's extensions")
        place += 8 + (length + 7) // 8 * 8
    raise Unfit(f"its header has more than {MAX_EXTENSIONS} extensions")


def _tables(image: Reading, cluster: int, size: int, l1_at: int, l1_entries: int, width: int) -> None:
    entries = cluster // width
    if l1_entries * 8 > MAX_L1_BYTES or l1_entries < -(-size // (cluster * entries)):
        raise Unfit(f"its table of tables has {l1_entries} entries for a disk of {size} bytes")
    seen: set[int] = set()
    for entry in image.table("Q", BIG, l1_at, l1_entries, "table of tables"):
        place = entry & OFFSET
        if not place:
            continue
        if place in seen:
            raise Unfit("two parts of its disk have one table")
        seen.add(place)
        if len(seen) * cluster > MAX_TABLES:
            raise Unfit(f"its tables have more than {MAX_TABLES} bytes; convert it to larger clusters")
        table = image.table("Q", BIG, place, cluster // 8, "table of clusters")
        _clusters(image, list(table[:: width // 8]), cluster)


def _clusters(image: Reading, table: list[int], cluster: int) -> None:
    """Check that the data that a table names lies within the file; the last cluster may be shorter."""
    plain = max((entry & OFFSET for entry in table if not entry & COMPRESSED), default=0)
    if plain >= image.length:
        raise Unfit(f"it is cut off: data is expected at byte {plain}, and it ends at {image.length}; copy it again")
    shift = 62 - (cluster.bit_length() - 1 - 8)
    packed = [entry & ((1 << shift) - 1) for entry in table if entry & COMPRESSED]
    if packed and max(packed) >= image.length:
        raise Unfit(f"it is cut off: data is expected at byte {max(packed)}, and it ends at {image.length}")
