"""What is brought into a claim: formats, compression, sizes, archives; and what is refused on the way."""

from __future__ import annotations

import gzip
import lzma
import os
import resource
import subprocess
import threading
from pathlib import Path

import pytest

from polyvisor.agent.errors import AgentError, ImageError
from polyvisor.agent.files.sparse import copy_sparse
from polyvisor.agent.images import decoding
from polyvisor.agent.images.compression import zstd
from polyvisor.agent.imports.incoming import Incoming

from ..conftest import link, member, tar

MIB = 1 << 20
RAW = (b"a disk" + bytes(4090)) * 16


def incoming(tmp_path: Path, size: int = MIB, **more: object) -> Incoming:
    return Incoming(tmp_path / "v", "ns", "c", size, "it", **more)  # type: ignore[arg-type]


def bring(tmp_path: Path, content: bytes, size: int = MIB, step: int = 1000, **more: object) -> bytes:
    with incoming(tmp_path, size, **more) as into:
        for start in range(0, len(content), step):
            into.write(content[start : start + step])
        into.finish()
    assert [path.name for path in (tmp_path / "v" / "ns").iterdir()] == ["c"]
    return (tmp_path / "v/ns/c/disk.img").read_bytes()


def refused(tmp_path: Path, content: bytes, message: str, size: int = MIB, **more: object) -> AgentError:
    with pytest.raises(AgentError, match=message) as caught:
        bring(tmp_path, content, size, **more)
    assert [path.name for path in (tmp_path / "v" / "ns").iterdir()] == ["c"]
    assert not list((tmp_path / "v/ns/c").iterdir())
    return caught.value


def image(tmp_path: Path, format_: str, *options: str, content: bytes = RAW) -> bytes:
    raw, made = tmp_path / "raw.img", tmp_path / f"made.{format_}"
    raw.write_bytes(content)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", format_, *options, raw, made], check=True)
    return made.read_bytes()


@pytest.mark.parametrize(
    "pack",
    [
        bytes,
        gzip.compress,
        lzma.compress,
        zstd.compress,
        lambda data: gzip.compress(data[:5000]) + gzip.compress(data[5000:]) + bytes(100),
        lambda data: lzma.compress(data[:5000]) + lzma.compress(data[5000:]),
    ],
    ids=["plain", "gzip", "xz", "zstd", "gzip twice", "xz twice"],
)
@pytest.mark.parametrize("format_", ["raw", "qcow2"])
def test_what_is_packed_is_unpacked(tmp_path: Path, pack, format_: str) -> None:  # type: ignore[no-untyped-def]
    found = bring(tmp_path, pack(image(tmp_path, format_)))
    assert found.startswith(RAW)
    assert len(found) == MIB
    assert found[len(RAW) :].count(0) == MIB - len(RAW)


@pytest.mark.parametrize("format_", ["qcow2", "vmdk", "vdi", "vhdx", "vpc"])
def test_formats_become_raw_and_tell_how_far_they_are(tmp_path: Path, format_: str) -> None:
    told: list[float] = []
    found = bring(tmp_path, image(tmp_path, format_), 8 * MIB, progress=told.append)
    assert found.startswith(RAW)
    assert len(found) == 8 * MIB
    assert told[-1] == 1.0
    assert told == sorted(told)


def test_an_image_from_the_cache_is_copied_with_its_holes(tmp_path: Path) -> None:
    source = tmp_path / "cached.img"
    with source.open("wb") as file:
        file.write(b"start")
        file.truncate(64 * MIB)
    with incoming(tmp_path, 64 * MIB) as into:
        into.take(source)
    made = tmp_path / "v/ns/c/disk.img"
    assert made.read_bytes()[:6] == b"start\0"
    assert made.stat().st_blocks * 512 < MIB
    assert source.exists()


def test_a_copy_is_true_to_every_hole(tmp_path: Path) -> None:
    source, target = tmp_path / "s", tmp_path / "t"
    with source.open("wb") as file:
        for place in (0, 3 * MIB, 9 * MIB):
            file.seek(place)
            file.write(os.urandom(70_000))
        file.truncate(12 * MIB)
    told: list[float] = []
    with source.open("rb") as one, target.open("wb") as other:
        copy_sparse(one.fileno(), other.fileno(), told.append)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks <= source.stat().st_blocks
    assert told[-1] == 1.0


def test_too_large_for_its_claim(tmp_path: Path) -> None:
    assert not refused(tmp_path, bytes(2 * MIB), "larger than its claim, which has 1048576 bytes").retry
    qcow2 = image(tmp_path, "qcow2", content=bytes(4 * MIB))
    assert not refused(tmp_path, qcow2, "a disk of 4194304 bytes, and the claim has 1048576").retry


def test_a_small_file_that_unpacks_to_a_huge_one_is_stopped(tmp_path: Path) -> None:
    bomb = lzma.compress(bytes(64 * MIB), preset=0)
    assert len(bomb) < MIB
    refused(tmp_path, bomb, "larger than its claim")
    refused(tmp_path, gzip.compress(bytes(64 * MIB)), "larger than its claim")


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, zstd.compress])
def test_cut_off_and_damaged(tmp_path: Path, pack) -> None:  # type: ignore[no-untyped-def]
    packed = pack(os.urandom(100_000))
    assert refused(tmp_path, packed[:50_000], "cut off").retry
    if pack is not zstd.compress:  # which has no sum of its content unless it is asked for one
        assert refused(tmp_path, packed[:2000] + bytes(3000) + packed[5000:], "damaged|cut off").retry


def test_empty(tmp_path: Path) -> None:
    with incoming(tmp_path) as into, pytest.raises(ImageError, match="it is empty"):
        into.finish()
    refused(tmp_path, gzip.compress(b""), "it is empty")


def backed(tmp_path: Path, format_: str, *options: str) -> bytes:
    base, made = tmp_path / f"base.{format_}", tmp_path / f"over.{format_}"
    subprocess.run(["qemu-img", "create", "-q", "-f", format_, *options, base, "1M"], check=True)
    command = ["qemu-img", "create", "-q", "-f", format_, "-F", format_, "-b", base, *options, made]
    subprocess.run(command, check=True)
    return made.read_bytes()


def test_images_that_read_other_files_are_refused(tmp_path: Path) -> None:
    for content in (backed(tmp_path, "qcow2"), backed(tmp_path, "vmdk")):
        assert not refused(tmp_path, content, "it, a .* image, is refused: it names a backing file").retry
    data = image(tmp_path, "qcow2", "-o", f"data_file={tmp_path}/data.img")
    assert not refused(tmp_path, data, "its data is in another file").retry
    flat = image(tmp_path, "vmdk", "-o", "subformat=monolithicFlat")
    assert not refused(tmp_path, flat, "names its data in other files").retry
    sneaky = bytearray(image(tmp_path, "vmdk"))
    sneaky[12:20] = bytes(8)  # a capacity of nothing has qemu-img believe the description inside, which names files
    refused(tmp_path, bytes(sneaky), "a capacity of 0")
    refused(tmp_path, b"QED\0" + bytes(1000), "a QED image")
    refused(tmp_path, b"QFI\xfb" + bytes(1000), "it is of version 0")


def test_an_import_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    stop = threading.Event()
    with incoming(tmp_path, stop=stop) as into:
        into.write(bytes(5000))
        stop.set()
        with pytest.raises(AgentError, match="given up"):
            into.write(bytes(5000))
    assert not list((tmp_path / "v/ns/c").iterdir())
    qcow2 = tmp_path / "q"
    qcow2.write_bytes(image(tmp_path, "qcow2", content=os.urandom(8 * MIB)))
    with pytest.raises(AgentError, match="given up"):
        decoding.convert(qcow2, "qcow2", tmp_path / "out", "raw", 8 * MIB, "it", stop=stop)


def test_what_a_killed_import_left_is_cleared_away(tmp_path: Path) -> None:
    into = incoming(tmp_path)
    into.__enter__()
    into.write(bytes(5000))
    assert bring(tmp_path, RAW).startswith(RAW)


def test_the_disk_of_an_earlier_try_is_replaced_whole(tmp_path: Path) -> None:
    bring(tmp_path, RAW)
    assert bring(tmp_path, b"other" * 1000).startswith(b"other")
    with pytest.raises(ImageError):
        bring(tmp_path, bytes(2 * MIB))
    assert (tmp_path / "v/ns/c/disk.img").read_bytes().startswith(b"other")


def test_an_archive_becomes_the_claim(tmp_path: Path) -> None:
    content = gzip.compress(tar(member("etc/motd", b"hello"), link("lib", "usr/lib")))
    with incoming(tmp_path, archive=True) as into:
        into.write(content)
        into.finish()
    assert (tmp_path / "v/ns/c/etc/motd").read_bytes() == b"hello"
    assert (tmp_path / "v/ns/c/lib").readlink() == Path("usr/lib")
    with incoming(tmp_path, archive=True) as into:
        into.write(content)
        with pytest.raises(AgentError, match="not empty"):
            into.finish()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tar(member("../evil", b"x")), "holds '..'"),
        (tar(link("d", "/etc"), member("d/evil", b"x")), "symbolic link|evil"),
        (b"no tar at all" * 100, "not a readable tar"),
    ],
)
def test_archives_that_lead_out_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    if b"evil" in content and b"/etc" in content:
        with incoming(tmp_path, archive=True) as into:
            into.write(content)
            into.finish()
        assert (tmp_path / "v/ns/c/etc/evil").exists()  # the link was resolved inside the tree, as a chroot would
        assert not Path("/etc/evil").exists()
        return
    refused(tmp_path, content, message, archive=True)


def test_a_folder_is_copied_whole(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/motd").write_text("hello")
    with incoming(tmp_path) as into:
        into.copy_tree(tree)
    assert (tmp_path / "v/ns/c/etc/motd").read_text() == "hello"


def test_a_blank_disk(tmp_path: Path) -> None:
    with incoming(tmp_path, 64 * MIB) as into:
        into.blank()
    made = tmp_path / "v/ns/c/disk.img"
    assert (made.stat().st_size, made.stat().st_blocks) == (64 * MIB, 0)
    assert made.stat().st_mode & 0o777 == 0o600


def test_a_disk_that_the_file_system_cannot_hold(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (32 * MIB, before[1]))  # answers as a file system at its end does
    try:
        with (
            incoming(tmp_path, 64 * MIB) as into,
            pytest.raises(AgentError, match="takes no file of that size") as error,
        ):
            into.blank()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not error.value.retry


def taken(tmp_path: Path, content: bytes, format_: str, size: int = MIB) -> bytes:
    with incoming(tmp_path, size) as into:
        fetched = into.scratch / "fetched"
        fetched.write_bytes(content)
        into.take_as(fetched, format_)
    assert [path.name for path in (tmp_path / "v" / "ns").iterdir()] == ["c"]
    return (tmp_path / "v/ns/c/disk.img").read_bytes()


def test_a_disk_of_a_host_is_taken_as_the_format_that_it_is_known_to_have(tmp_path: Path) -> None:
    assert taken(tmp_path, image(tmp_path, "qcow2"), "qcow2") == RAW + bytes(MIB - len(RAW))
    pretended = image(tmp_path, "qcow2")  # a guest wrote that on its raw disk
    assert taken(tmp_path, pretended, "raw")[: len(pretended)] == pretended


@pytest.mark.parametrize(
    ("format_", "says"), [("raw", "ask for more storage"), ("qcow2", "is raw, and qcow2 is expected")]
)
def test_a_disk_of_a_host_that_is_another_or_too_large_is_refused(tmp_path: Path, format_: str, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        taken(tmp_path, RAW + bytes(2 * MIB), format_)


def test_a_layer_above_another_file_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "below.img").write_bytes(RAW)
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", tmp_path / "below.img", tmp_path / "top"]
    subprocess.run(command, check=True)
    with pytest.raises(ImageError, match=r"reads other files|backing"):
        taken(tmp_path, (tmp_path / "top").read_bytes(), "qcow2")
