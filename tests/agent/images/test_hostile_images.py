"""One table of hostile images against every way in. What is refused is refused before any other program sees it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from polyvisor.agent.errors import AgentError, ImageError
from polyvisor.agent.images import decoding
from polyvisor.agent.imports.incoming import Incoming
from polyvisor.agent.platform.endpoint.bringing import to_upload
from polyvisor.agent.storage import disks
from polyvisor.agent.storage.disks import Image
from polyvisor.agent.storage.making import Inputs, prepare
from polyvisor.agent.storage.sources import Places
from polyvisor.api.quantity import whole
from tests.agent.hostile_images import DOCUMENTS, IMAGES, MIB, Hostile, made
from tests.needs import need_root, unmet

from ..conftest import ForeignDriver, Layout, Make, PlainDriver, RawDriver, member, tar

ALL = {**IMAGES, **DOCUMENTS}
CLAIM = {"spec": {"resources": {"requests": {"storage": "1Mi"}}}}


def brought(into: Incoming, content: bytes) -> None:
    into.write(content)
    into.finish()


EACH = pytest.mark.parametrize("hostile", ALL.values(), ids=ALL)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    os.mkfifo(path)
    return path


@pytest.fixture
def nothing_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(*_: object, **__: object) -> bytes:
        raise AssertionError("another program was given the image")

    monkeypatch.setattr(decoding, "_run", decoded)


@EACH
@pytest.mark.usefixtures("nothing_decodes")
@pytest.mark.parametrize("driver", [PlainDriver(), RawDriver(), ForeignDriver()], ids=["qcow2", "raw", "vmdk"])
def test_container_disk(
    hostile: Hostile,
    driver: PlainDriver,
    layout: Layout,
    places: Places,
    home: Path,
    make_vmi: Make,
    tmp_path: Path,
    secret: Path,
) -> None:
    layout.image("a:1", tar(member("disk/d.img", hostile.make(tmp_path, secret))))
    vmi = make_vmi({"name": "a", "containerDisk": {"image": "a:1"}})
    with pytest.raises(ImageError, match=hostile.words) as caught:
        prepare(vmi, driver, home, places, Inputs())
    assert not caught.value.retry
    assert not list(home.iterdir())


@EACH
@pytest.mark.usefixtures("nothing_decodes")
def test_import_and_upload(hostile: Hostile, tmp_path: Path, secret: Path) -> None:
    content = hostile.make(tmp_path, secret)
    with Incoming(tmp_path / "v", "ns", "c", 64 * MIB, "it") as into, pytest.raises(ImageError) as caught:
        brought(into, content)
    assert re.search(hostile.words, str(caught.value))
    assert not caught.value.retry
    assert not list((tmp_path / "v/ns/c").iterdir())


@EACH
@pytest.mark.usefixtures("nothing_decodes")
@pytest.mark.parametrize("wanted", ["raw", "qcow2", "vmdk"])
def test_upload_to_the_host_of_an_endpoint(hostile: Hostile, wanted: str, tmp_path: Path, secret: Path) -> None:
    image, scratch = tmp_path / "in-the-cache", tmp_path / "scratch"
    image.write_bytes(hostile.make(tmp_path, secret))
    scratch.mkdir()
    with pytest.raises(ImageError, match=hostile.words):
        to_upload(Image.here(image), scratch, wanted, "it", lambda _: None)
    assert not list(scratch.iterdir())


@EACH
@pytest.mark.usefixtures("nothing_decodes")
def test_import_from_a_registry(hostile: Hostile, tmp_path: Path, secret: Path) -> None:
    image = tmp_path / "in-the-cache"
    image.write_bytes(hostile.make(tmp_path, secret))
    with Incoming(tmp_path / "v", "ns", "c", 64 * MIB, "it") as into, pytest.raises(ImageError, match=hostile.words):
        into.take(image)
    assert not list((tmp_path / "v/ns/c").iterdir())


@EACH
@pytest.mark.usefixtures("nothing_decodes")
def test_a_claim_is_raw_whatever_its_guest_wrote(
    hostile: Hostile, places: Places, home: Path, make_vmi: Make, tmp_path: Path, secret: Path
) -> None:
    folder = disks.claim_folder(places.volumes, "default", "c")
    (folder / "disk.img").write_bytes(hostile.make(tmp_path, secret))
    vmi = make_vmi(
        {"name": "a", "persistentVolumeClaim": {"claimName": "c"}},
        {"name": "b", "ephemeral": {"persistentVolumeClaim": {"claimName": "c"}}},
    )
    files = prepare(vmi, PlainDriver(), home, places, Inputs(claims={"c": CLAIM})).files
    assert files["a"].format == "raw"
    told = subprocess.run(["qemu-img", "info", files["b"].path], capture_output=True, text=True, check=True).stdout
    assert "backing file format: raw" in told


@pytest.mark.parametrize("hostile", IMAGES.values(), ids=IMAGES)
@pytest.mark.usefixtures("nothing_decodes")
def test_a_host_disk_is_raw_or_refused(hostile: Hostile, places: Places, tmp_path: Path, secret: Path) -> None:
    places.hostdisks.mkdir(parents=True)
    content = hostile.make(tmp_path, secret)
    (places.hostdisks / "d.img").write_bytes(content)
    with pytest.raises(AgentError, match=r"host disk d.img is a"):
        disks.host_disk(places.hostdisks, "d.img", "Disk", 0)
    assert (places.hostdisks / "d.img").read_bytes() == content


@EACH
@pytest.mark.usefixtures("nothing_decodes")
@pytest.mark.parametrize("key", ["kernelPath", "initrdPath"])
def test_kernel_boot(
    hostile: Hostile,
    key: str,
    layout: Layout,
    places: Places,
    home: Path,
    make_vmi: Make,
    tmp_path: Path,
    secret: Path,
) -> None:
    content = hostile.make(tmp_path, secret)
    layout.image("k:1", tar(member("boot/file", content), member("boot/kernel", b"MZ" + bytes(600))))
    container = {"image": "k:1", "kernelPath": "/boot/kernel", key: "/boot/file"}
    vmi = make_vmi(domain={"firmware": {"kernelBoot": {"container": container}}})
    if hostile.words in ("a tar archive", "a zip archive"):  # an initrd may be an archive
        return
    with pytest.raises(ImageError, match="not a kernel or initrd"):
        prepare(vmi, PlainDriver(), home, places, Inputs())


@pytest.mark.parametrize(
    ("kernel", "initrd", "words"),
    [
        (b"070701" + bytes(600), b"\x1f\x8b" + bytes(600), "/k of k:1 is an initrd, not a kernel: see kernelPath"),
        (
            b"MZ" + bytes(600),
            bytes(0x202) + b"HdrS" + bytes(99),
            "/i of k:1 is a Linux kernel, not an initrd: see init",
        ),
    ],
)
def test_kernel_and_initrd_in_each_others_place(
    kernel: bytes, initrd: bytes, words: str, layout: Layout, places: Places, home: Path, make_vmi: Make
) -> None:
    layout.image("k:1", tar(member("k", kernel), member("i", initrd)))
    container = {"image": "k:1", "kernelPath": "/k", "initrdPath": "/i"}
    vmi = make_vmi(domain={"firmware": {"kernelBoot": {"container": container}}})
    with pytest.raises(ImageError, match=words):
        prepare(vmi, PlainDriver(), home, places, Inputs())


@pytest.mark.parametrize(
    ("format_", "options"),
    [
        *((format_, ()) for format_ in ("qcow2", "vmdk", "vdi", "vhdx", "vpc")),
        ("qcow2", ("-c",)),
        ("vmdk", ("-o", "subformat=streamOptimized")),
    ],
)
def test_honest_images_are_taken(tmp_path: Path, format_: str, options: tuple[str, ...]) -> None:
    content = b"honest" + os.urandom(5000)
    image = made(tmp_path, format_, *options, content=content, size=8 * MIB)
    with Incoming(tmp_path / "v", "ns", "c", 16 * MIB, "it") as into:
        into.write(image)
        into.finish()
    assert (tmp_path / "v/ns/c/disk.img").read_bytes() == content + bytes(16 * MIB - len(content))


def test_damage_that_only_a_check_finds(tmp_path: Path) -> None:
    image = bytearray(made(tmp_path, "qcow2", content=os.urandom(MIB)))
    at = int.from_bytes(image[48:56])
    image[at : at + 8] = bytes(8)  # no reference counts
    with Incoming(tmp_path / "v", "ns", "c", 8 * MIB, "it") as into:
        into.write(bytes(image))
        with pytest.raises(ImageError, match="damaged or cut off"):
            into.finish()


def test_a_bomb_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "ROOM", 0)
    monkeypatch.setattr(decoding, "LOOK", 0.001)
    bomb = tmp_path / "bomb"
    bomb.write_bytes(made(tmp_path, "qcow2", "-c", content=b"bomb" * (16 * MIB), size=64 * MIB))
    with pytest.raises(ImageError, match="unpacks to more than"):
        decoding.convert(bomb, "qcow2", tmp_path / "out", "raw", 64 * MIB, "it")


def test_a_decoder_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "WALL", 0)
    image = tmp_path / "image"
    image.write_bytes(made(tmp_path, "qcow2"))
    with pytest.raises(ImageError, match="took longer than 0 s"):
        decoding.virtual_size(image, "qcow2", "it")


def test_what_a_decoder_may_write_is_limited(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(made(tmp_path, "qcow2", content=b"x" * (128 * MIB), size=128 * MIB))
    with pytest.raises(ImageError, match="not a readable image"):
        decoding.convert(image, "qcow2", tmp_path / "out", "raw", MIB, "it")


@pytest.fixture
def sandboxed(tmp_path: Path) -> Path:
    if decoding.confinement() != decoding.SANDBOX:
        need_root()
        unmet("bubblewrap makes no sandbox here")
    image = tmp_path / "image"
    image.write_bytes(b"content")
    image.chmod(0o444)
    return image


def inside(image: Path, script: str) -> str:
    """Return what a shell prints in the place of qemu-img."""
    command = decoding._command(decoding._Task((), image, 5))
    last = len(command) - 1 - command[::-1].index("/usr/bin/qemu-img")
    done = subprocess.run([*command[:last], "/usr/bin/sh", "-c", script], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_a_decoder_sees_the_image_and_nothing_else(sandboxed: Path) -> None:
    assert set(inside(sandboxed, "echo /*").split()) <= {"/bin", "/dev", "/image", "/lib", "/lib64", "/usr"}
    assert inside(sandboxed, "cat /image") == "content"
    assert "Read-only file system" in inside(sandboxed, ": > /image")
    assert "Permission denied" in inside(sandboxed, ": > /x") or os.geteuid()
    assert "No such file" in inside(sandboxed, ": < /etc/passwd")


def test_a_decoder_is_nobody(sandboxed: Path) -> None:
    if os.geteuid() == 0:
        assert inside(sandboxed, "id -u; id -G").split() == [str(decoding.USER)] * 2
    assert inside(sandboxed, "ulimit -v; ulimit -t; ulimit -f; ulimit -c").split() == [str(2 << 20), "5", "0", "0"]
    assert "not permitted" in inside(sandboxed, "setpriv --reuid=0 true; unshare --mount true")


@pytest.mark.parametrize("size", ["7G", "7000001", "1", "512"])
def test_every_raw_image_is_a_whole_number_of_mib(places: Places, size: str) -> None:
    wanted = int(whole(size))
    if wanted < 512:
        with pytest.raises(AgentError, match="512 to"):
            disks.claim_disk(places.volumes, "default", "c", wanted)
        return
    for file in (
        disks.claim_disk(places.volumes, "default", "c", wanted),
        disks.host_disk(places.hostdisks, "d.img", "DiskOrCreate", wanted),
        disks.empty(places.volumes, "e", wanted, ("raw",)),
    ):
        assert file.path.stat().st_size % MIB == 0
        assert file.path.stat().st_size >= wanted


def test_an_old_claim_grows_to_a_whole_number_of_mib(places: Places) -> None:
    folder = disks.claim_folder(places.volumes, "default", "c")
    (folder / "disk.img").write_bytes(b"kept" + bytes(1000))
    file = disks.claim_disk(places.volumes, "default", "c", MIB)
    assert file.path.read_bytes() == b"kept" + bytes(MIB - 4)


def test_an_import_of_what_shows_nothing_is_warned_of(tmp_path: Path) -> None:
    for content, warned in (
        (b"mystery" * 1000, True),
        (bytes(510) + b"\x55\xaa" + bytes(600), False),
        (bytes(2000), False),
    ):
        with Incoming(tmp_path / "v", "ns", "c", MIB, "it") as into:
            into.write(content)
            into.finish()
            assert bool(into.warning) == warned
