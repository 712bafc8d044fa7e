"""Images that lead out, lie or are broken: made here, each with the words of its refusal.

``SECRET`` is a FIFO that nobody writes to: a program that opens it hangs, and the test with it.
"""

from __future__ import annotations

import io
import os
import struct
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True)
class Hostile:
    """``make`` gets a scratch folder and the path that must not be opened; ``words`` are of the refusal."""

    make: Callable[[Path, Path], bytes]
    words: str


def made(folder: Path, format_: str, *options: str, content: bytes = b"", size: int = MIB) -> bytes:
    """Return an honest image by qemu-img."""
    raw, image = folder / "raw", folder / f"made.{format_}"
    with raw.open("wb") as file:
        file.write(content)
        file.truncate(size)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", format_, *options, raw, image], check=True)
    return image.read_bytes()


def patched(image: bytes, *places: tuple[int, bytes]) -> bytes:
    """Return an image with other bytes at some offsets."""
    found = bytearray(image)
    for at, data in places:
        found[at : at + len(data)] = data
    return bytes(found)


def _backed(name: Callable[[Path], str]) -> Callable[[Path, Path], bytes]:
    def make(folder: Path, secret: Path) -> bytes:
        text = name(secret).encode()
        return patched(made(folder, "qcow2"), (8, struct.pack(">QI", 512, len(text))), (512, text))

    return make


def _data_file(folder: Path, secret: Path) -> bytes:
    name = str(secret).encode()
    extension = struct.pack(">II", 0x44415441, len(name)) + name + bytes(-len(name) % 8) + bytes(8)
    return patched(made(folder, "qcow2"), (72, struct.pack(">Q", 4)), (112, extension))


def _named_without_the_feature(folder: Path, secret: Path) -> bytes:
    return patched(_data_file(folder, secret), (72, bytes(8)))


def _snapshots(folder: Path, _: Path) -> bytes:
    image = folder / "snapshots.qcow2"
    image.write_bytes(made(folder, "qcow2"))
    subprocess.run(["qemu-img", "snapshot", "-c", "one", image], check=True)
    return image.read_bytes()


def _encrypted(folder: Path, _: Path) -> bytes:
    return patched(made(folder, "qcow2"), (32, struct.pack(">I", 2)))


def _huge_qcow2(folder: Path, _: Path) -> bytes:
    image = folder / "huge.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", image, "1P"], check=True)
    return image.read_bytes()


def _no_tables(folder: Path, _: Path) -> bytes:
    return patched(made(folder, "qcow2"), (24, struct.pack(">Q", 1 << 40)))


def _tables_outside(folder: Path, _: Path) -> bytes:
    return patched(made(folder, "qcow2"), (40, struct.pack(">Q", 1 << 50)))


def _one_table_for_all(folder: Path, _: Path) -> bytes:
    image = made(folder, "qcow2", "-o", "cluster_size=512", content=os.urandom(MIB))
    (at,) = struct.unpack_from(">Q", image, 40)
    return patched(image, (at + 8, image[at : at + 8]))


def _cut_qcow2(folder: Path, _: Path) -> bytes:
    image = made(folder, "qcow2", content=os.urandom(MIB))
    return image[: len(image) // 2]


def _cut_packed_qcow2(folder: Path, _: Path) -> bytes:
    image = made(folder, "qcow2", "-c", content=os.urandom(MIB // 2) * 2)
    return image[: len(image) - 300_000]


def _embedded(folder: Path, secret: Path) -> bytes:
    """The VMDK of the advisory: a capacity of nothing, and a description inside that names a file."""
    text = f'# Disk DescriptorFile\nversion=1\ncreateType="monolithicFlat"\nRW 2048 FLAT "{secret}" 0\n'
    return patched(made(folder, "vmdk"), (12, bytes(8)), (512, bytes(10240)), (512, text.encode()))


def _parent_beside(folder: Path, secret: Path) -> bytes:
    """The parent's name stands where QEMU looks, though the header says that the description is elsewhere."""
    text = f'parentFileNameHint="{secret}"\n'.encode()
    return patched(made(folder, "vmdk"), (28, bytes(16)), (9000, text))


def _kind(kind: str) -> Callable[[Path, Path], bytes]:
    def make(folder: Path, _: Path) -> bytes:
        image = made(folder, "vmdk")
        return image.replace(b"monolithicSparse", kind.encode()[:16].ljust(16, b"x"))

    return make


def _extents(folder: Path, secret: Path) -> bytes:
    image = made(folder, "vmdk")
    at = image.index(b"\nRW ", 512)
    return patched(image, (at, f'\nRW 2048 SPARSE "a"\nRW 2048 FLAT "{secret}" 0\n'.encode()))


def _cut_vmdk(folder: Path, _: Path) -> bytes:
    image = made(folder, "vmdk", content=os.urandom(MIB))
    return image[: len(image) // 2]


def _huge_vmdk(folder: Path, _: Path) -> bytes:
    return patched(made(folder, "vmdk"), (12, struct.pack("<Q", 1 << 60)))


def _vdi_layer(folder: Path, _: Path) -> bytes:
    return patched(made(folder, "vdi"), (0x4C, struct.pack("<I", 4)))


def _vdi_parent(folder: Path, _: Path) -> bytes:
    return patched(made(folder, "vdi"), (0x1B8, b"p" * 16))


def _cut_vdi(folder: Path, _: Path) -> bytes:
    image = made(folder, "vdi", content=os.urandom(MIB))
    return image[: len(image) // 2]


def _vhd_layer(folder: Path, _: Path) -> bytes:
    return patched(made(folder, "vpc"), (60, struct.pack(">I", 4)))


def _vhd_locator(folder: Path, _: Path) -> bytes:
    return patched(made(folder, "vpc"), (512 + 576, b"W2ku"))


def _cut_vhd(folder: Path, _: Path) -> bytes:
    image = made(folder, "vpc", content=os.urandom(MIB))
    return image[: len(image) // 2]


def _vhdx_parent(folder: Path, _: Path) -> bytes:
    image = made(folder, "vhdx")
    guid = bytes.fromhex("2d5fd3a80bb34d45abf7d3d84834ab0c")
    at = image.index(b"metadata\0\0")
    return patched(image, (at + 10, struct.pack("<H", 6)), (at + 32 + 5 * 32, guid))


def _vhdx_log(folder: Path, _: Path) -> bytes:
    image = made(folder, "vhdx")
    return patched(image, *[(place + 48, b"L" * 16) for place in (64 * 1024, 128 * 1024)])


def _cut_vhdx(folder: Path, _: Path) -> bytes:
    return made(folder, "vhdx", content=os.urandom(MIB))[: 200 * 1024]


def _tar(folder: Path, _: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("disk.img"))
    return out.getvalue()


def _flat(data: bytes) -> Callable[[Path, Path], bytes]:
    return lambda _folder, _secret: data


IMAGES: dict[str, Hostile] = {
    "qcow2 with a backing file": Hostile(_backed(str), "backing file"),
    "qcow2 with a json: name": Hostile(
        _backed(lambda secret: f'json:{{"driver":"file","filename":"{secret}"}}'), "backing file"
    ),
    "qcow2 with an nbd: name": Hostile(_backed(lambda _: "nbd:127.0.0.1:10809"), "backing file"),
    "qcow2 with a data file": Hostile(_data_file, "another file"),
    "qcow2 that names a data file": Hostile(_named_without_the_feature, "names a file for its data"),
    "qcow2 with snapshots": Hostile(_snapshots, "1 snapshots"),
    "qcow2 that is encrypted": Hostile(_encrypted, "encrypted"),
    "qcow2 of 1 PiB": Hostile(_huge_qcow2, "are accepted"),
    "qcow2 without tables for its size": Hostile(_no_tables, "table of tables"),
    "qcow2 with tables outside": Hostile(_tables_outside, "cut off or damaged"),
    "qcow2 with one table for all": Hostile(_one_table_for_all, "have one table"),
    "qcow2 that is cut off": Hostile(_cut_qcow2, "cut off"),
    "qcow2, packed, that is cut off": Hostile(_cut_packed_qcow2, "cut off"),
    "qcow2 of a later version": Hostile(_flat(b"QFI\xfb\0\0\0\4" + bytes(1000)), "version 4"),
    "vmdk with a description inside": Hostile(_embedded, "a capacity of 0"),
    "vmdk with a hidden parent": Hostile(_parent_beside, "backing file"),
    "vmdk of another kind": Hostile(_kind("fullDevice"), "of the kind fullDevice"),
    "vmdk with two extents": Hostile(_extents, "several files"),
    "vmdk that is cut off": Hostile(_cut_vmdk, "cut off"),
    "vmdk of 2^69 bytes": Hostile(_huge_vmdk, "declares a disk"),
    "vmdk description": Hostile(_flat(b'# Disk DescriptorFile\nRW 1 FLAT "/etc/shadow" 0\n'), "in other files"),
    "vdi that is a layer": Hostile(_vdi_layer, "layer above"),
    "vdi with a parent": Hostile(_vdi_parent, "layer above"),
    "vdi that is cut off": Hostile(_cut_vdi, "cut off"),
    "vhd that is a layer": Hostile(_vhd_layer, "layer above"),
    "vhd with a parent": Hostile(_vhd_locator, "parent"),
    "vhd that is cut off": Hostile(_cut_vhd, "cut off"),
    "vhdx with a parent": Hostile(_vhdx_parent, "parent"),
    "vhdx with a log": Hostile(_vhdx_log, "log"),
    "vhdx that is cut off": Hostile(_cut_vhdx, "cut off"),
    "qed": Hostile(_flat(b"QED\0" + bytes(1000)), "QED"),
    "old vmdk": Hostile(_flat(b"COWD" + bytes(1000)), "old VMDK"),
}
"""Refused wherever an image is decoded."""

DOCUMENTS: dict[str, Hostile] = {
    "web page": Hostile(_flat(b"\n<!DOCTYPE html>\n<html><body>404</body></html>"), "a web page"),
    "error of an object store": Hostile(_flat(b'<?xml version="1.0"?><Error/>'), "a web page or another XML"),
    "video": Hostile(_flat(b"\0\0\0\x18ftypmp42" + bytes(1000)), "an MP4 video"),
    "film": Hostile(_flat(b"\x1aE\xdf\xa3" + bytes(1000)), "a Matroska video"),
    "tar archive": Hostile(_tar, "a tar archive"),
    "zip archive": Hostile(_flat(b"PK\3\4" + bytes(1000)), "a zip archive"),
    "PDF": Hostile(_flat(b"%PDF-1.7\n" + bytes(1000)), "a PDF document"),
}
"""Not disks, though a hypervisor would take them for raw ones."""
