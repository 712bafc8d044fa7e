"""What a raw image seems to hold: a boot sector, a file system; or something that is not a disk, such as a web page."""

from __future__ import annotations

import re

from polyvisor.agent.images.examining.reading import Reading

PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html|head|body|\?xml|svg)[\s>]", re.IGNORECASE)
NO_DISKS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"\xfd7zXZ\0", "an xz archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!\x1a\x07", "a rar archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"GIF8", "a GIF picture"),
    (4, b"ftyp", "an MP4 video"),
    (0, b"\x1aE\xdf\xa3", "a Matroska video"),
    (0, b"OggS", "an Ogg recording"),
    (0, b"FLV\x01", "a Flash video"),
    (0, b"ID3", "an MP3 recording"),
    (0, b"\x7fELF", "a program (ELF)"),
)
DISKS: tuple[tuple[int, bytes, str], ...] = (
    (512, b"EFI PART", "a GUID partition table"),
    (4096, b"EFI PART", "a GUID partition table"),
    (510, b"\x55\xaa", "a boot sector"),
    (32769, b"CD001", "an ISO 9660 file system"),
    (32769, b"NSR0", "a UDF file system"),
    (1080, b"\x53\xef", "an ext file system"),
    (0, b"XFSB", "an XFS file system"),
    (0x10040, b"_BHRfS_M", "a Btrfs file system"),
    (0, b"hsqs", "a SquashFS file system"),
    (1024, b"\x10\x20\xf5\xf2", "an F2FS file system"),
    (1024, b"\xe2\xe1\xf5\xe0", "an EROFS file system"),
    (0, b"LUKS\xba\xbe", "a LUKS volume"),
    (536, b"LVM2 001", "an LVM volume"),
    (4086, b"SWAPSPACE2", "swap space"),
)
BOOTED = (" archive", "(ELF)")
"""What a kernel or an initrd may be."""
BLANK = 1 << 20
"""How many bytes of zeros from the beginning make a blank disk."""


def not_a_disk(image: Reading) -> str:
    """Return what the file is if it is certainly not a disk."""
    if _known(image, DISKS):
        return ""  # whatever else its first bytes say: hybrid images begin with other things
    head = image.head(1024)
    if PAGE.match(head):
        return "a web page or another XML document"
    if head.startswith(b"RIFF") and head[8:12] in (b"AVI ", b"WAVE", b"WEBP"):
        return "a video, recording or picture (RIFF)"
    return _known(image, NO_DISKS)


def document(image: Reading) -> str:
    """Return what the file is if it is a web page or another document, which nothing boots from."""
    found = "a web page or another XML document" if PAGE.match(image.head(1024)) else _known(image, NO_DISKS)
    return "" if found.endswith(BOOTED) else found


def held(image: Reading) -> str:
    """Return what a disk seems to hold; empty if nothing of it is known here."""
    if found := _known(image, DISKS):
        return found
    return "" if any(image.head(BLANK)) else "a blank disk"


def _known(image: Reading, kinds: tuple[tuple[int, bytes, str], ...]) -> str:
    return next((what for place, magic, what in kinds if image.some(place, len(magic)) == magic), "")
