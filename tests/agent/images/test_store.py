from __future__ import annotations

import gzip
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.errors import AgentError, ImageError
from polyvisor.agent.images import oci
from polyvisor.agent.images.compression import zstd
from polyvisor.agent.images.store import ImageStore

from ..conftest import Layout, Member, digest, folder, hard, link, member, tar

DISK = member("disk/disk.img", b"raw" * 100)
HOST = oci.host_architecture()


def test_disk_is_found_by_full_reference(layout: Layout, store: ImageStore) -> None:
    layout.image("localhost/polyvisor/demo:1", tar(folder("disk"), DISK))
    assert store.disk("localhost/polyvisor/demo:1").read_bytes() == b"raw" * 100


def test_latest_is_understood(layout: Layout, store: ImageStore) -> None:
    layout.image("demo:latest", tar(DISK), compress=False)
    assert store.disk("demo").name == "disk.img"


def test_missing_image_names_the_nearest(layout: Layout, store: ImageStore) -> None:
    layout.image("localhost/demo-kernel:1", tar(DISK))
    with pytest.raises(ImageError, match="did you mean localhost/demo-kernel:1"):
        store.disk("localhost/demo-kernle:1")
    with pytest.raises(ImageError, match=r"there are: localhost/demo-kernel:1"):
        store.disk("quite-another-thing")


def test_empty_store(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist"):
        ImageStore(tmp_path / "none", tmp_path / "cache").disk("x")
    (tmp_path / "none").mkdir()
    with pytest.raises(ImageError, match="no image x in the image store; there are: none"):
        ImageStore(tmp_path / "none", tmp_path / "cache").disk("x")


def test_ambiguous_and_missing_disk(layout: Layout, store: ImageStore) -> None:
    layout.image("two:1", tar(DISK, member("disk/b.img", b"b")))
    layout.image("none:1", tar(member("etc/motd", b"x")))
    with pytest.raises(ImageError, match=r"ambiguous: /disk holds b.img, disk.img"):
        store.disk("two:1")
    assert store.disk("two:1", "/disk/b.img").read_bytes() == b"b"
    with pytest.raises(ImageError, match="no file below /disk") as caught:
        store.disk("none:1")
    assert not caught.value.retry
    with pytest.raises(ImageError, match="has no file /disk/zzz"):
        store.disk("two:1", "/disk/zzz")


def test_corrupt_layer_is_named_and_leaves_nothing(layout: Layout, store: ImageStore, tmp_path: Path) -> None:
    layout.image("bad:1", tar(DISK))
    for blob in (layout.root / "blobs" / "sha256").iterdir():
        if blob.read_bytes()[:2] == b"\x1f\x8b":
            blob.write_bytes(blob.read_bytes()[:-9] + b"x" * 9)
            name = blob.name
    with pytest.raises(ImageError, match=f"layer sha256:{name} is corrupt"):
        store.disk("bad:1")
    assert not list((tmp_path / "cache").iterdir())


def test_corrupt_manifest(layout: Layout, store: ImageStore) -> None:
    entry = layout.image("bad:1", tar(DISK))
    (layout.root / "blobs/sha256" / entry["digest"].removeprefix("sha256:")).write_text("{}")
    with pytest.raises(ImageError, match="is corrupt"):
        store.disk("bad:1")


@pytest.mark.parametrize("name", ["../../etc/passwd", "sha256:../../../etc/passwd", "md5:00", "sha256:ABC"])
def test_digest_cannot_be_a_path(layout: Layout, store: ImageStore, name: str) -> None:
    layout.add({"digest": name, "annotations": {"org.opencontainers.image.ref.name": "evil:1"}})
    with pytest.raises(ImageError, match="only sha256 digests"):
        store.disk("evil:1")


def test_architecture_is_chosen(layout: Layout, store: ImageStore) -> None:
    layout.image("a", tar(member("disk/a", b"mine")), architecture=HOST)
    layout.image("b", tar(member("disk/a", b"other")), architecture="sparc")
    entries = [{**entry, "annotations": {}} for entry in layout.manifests]
    layout.manifests.clear()
    index = layout.blob(json.dumps({"manifests": entries}).encode())
    index["mediaType"] = oci.INDEX_TYPES[0]
    layout.add({**index, "annotations": {"org.opencontainers.image.ref.name": "both:1"}})
    assert store.disk("both:1").read_bytes() == b"mine"
    assert store.disk("both:1", architecture="sparc").read_bytes() == b"other"
    with pytest.raises(ImageError, match="not for mips"):
        store.disk("both:1", architecture="mips")


def test_oci_folder_and_archive(layout: Layout, store: ImageStore) -> None:
    inner = Layout(layout.root / "sub" / "one")
    inner.image("1", tar(DISK))
    assert store.disk("oci:sub/one:1").name == "disk.img"
    assert store.disk("oci:sub/one").name == "disk.img"
    with tarfile.open(layout.root / "one.tar", "w") as archive:
        archive.add(inner.root, ".")
    assert store.disk("oci-archive:one.tar:1").name == "disk.img"
    with pytest.raises(ImageError, match=r"no image .* did you mean|there are: 1"):
        store.disk("oci-archive:one.tar:2")
    with pytest.raises(ImageError, match=r"there are: one\.tar, sub"):
        store.disk("oci-archive:two.tar")


def docker_archive(path: Path, layer: bytes, *, diff_id: str = "") -> None:
    config = json.dumps({"architecture": HOST, "rootfs": {"diff_ids": [diff_id or digest(layer)]}}).encode()
    manifest = json.dumps([{"Config": "c.json", "RepoTags": ["demo:1"], "Layers": ["a/layer.tar"]}]).encode()
    path.write_bytes(tar(member("c.json", config), member("a/layer.tar", layer), member("manifest.json", manifest)))


def test_docker_archive(layout: Layout, store: ImageStore) -> None:
    docker_archive(layout.root / "d.tar", tar(DISK))
    assert store.disk("docker-archive:d.tar").name == "disk.img"
    assert store.disk("docker-archive:d.tar:demo:1").name == "disk.img"
    docker_archive(layout.root / "bad.tar", tar(DISK), diff_id=digest(b"else"))
    with pytest.raises(ImageError, match="is corrupt"):
        store.disk("docker-archive:bad.tar")
    (layout.root / "no.tar").write_bytes(b"x" * 2000)
    with pytest.raises(ImageError, match="not a tar archive"):
        store.disk("docker-archive:no.tar")


@pytest.mark.parametrize(
    "reference",
    [
        "oci:../out",
        "oci:/etc",
        "oci:",
        "oci-archive:../x.tar",
        "docker-archive:a/../../x",
        "oci:link",
        "oci-archive:l.tar",
    ],
)
def test_reference_stays_below_the_store(layout: Layout, store: ImageStore, tmp_path: Path, reference: str) -> None:
    Layout(tmp_path / "out").image("1", tar(DISK))
    (layout.root / "link").symlink_to(tmp_path / "out")
    (layout.root / "l.tar").symlink_to("/etc/passwd")
    with pytest.raises(AgentError):
        store.disk(reference)


def test_fifo_in_the_store_does_not_hang(layout: Layout, store: ImageStore) -> None:
    os.mkfifo(layout.root / "f.tar")
    with pytest.raises(ImageError, match="not a regular file"):
        store.disk("oci-archive:f.tar")


ESCAPES: dict[str, list[Member]] = {
    "dotdot": [member("../evil", b"x")],
    "dotdot inside": [member("a/../../evil", b"x")],
    "hard link out": [hard("a", "../../../etc/passwd")],
    "hard link to nothing": [hard("a", "not-there")],
    "block device": [member("sda", type=tarfile.BLKTYPE, devmajor=8, devminor=0)],
    "memory": [member("mem", type=tarfile.CHRTYPE, devmajor=1, devminor=1)],
    "whiteout of the parent": [member(".wh..")],
    "whiteout dotdot": [member(".wh...")],
    "control": [member("a\nb", b"x")],
}


@pytest.mark.parametrize("members", ESCAPES.values(), ids=ESCAPES.keys())
def test_escapes_are_refused(layout: Layout, store: ImageStore, tmp_path: Path, members: list[Member]) -> None:
    outside = tmp_path / "evil"
    layout.image("evil:1", tar(DISK, *members))
    with pytest.raises(ImageError, match="refused") as caught:
        store.tree("evil:1")
    assert not caught.value.retry
    assert not outside.exists()
    assert not list((tmp_path / "cache").iterdir())


def test_links_of_the_image_stay_inside(layout: Layout, store: ImageStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").write_text("keep")
    layout.image(
        "links:1",
        tar(
            link("abs", str(outside)),
            link("up", "../../../../../../.." + str(outside)),
            folder("usr"),
            link("lib", "usr"),
        ),
        tar(member("abs/evil", b"x"), member("up/evil", b"x"), member("lib/so", b"so"), member("abs/.wh.keep")),
    )
    tree = store.tree("links:1")
    assert (outside / "keep").read_text() == "keep"
    assert not (outside / "evil").exists()
    assert (tree / "usr/so").read_bytes() == b"so"
    assert (tree / str(outside).lstrip("/") / "evil").exists()


def test_disk_that_is_a_link_is_resolved_inside_only(layout: Layout, store: ImageStore) -> None:
    layout.image("l:1", tar(link("disk/d", "/boot/real"), member("boot/real", b"real"), link("disk2", "/etc/shadow")))
    assert store.disk("l:1").read_bytes() == b"real"
    with pytest.raises(ImageError, match="no file"):
        store.disk("l:1", "disk2")
    with pytest.raises(ImageError, match=r"'\.\.'"):
        store.disk("l:1", "/disk/../../../etc/passwd")


def test_whiteouts_opaque_and_replacement(layout: Layout, store: ImageStore) -> None:
    layout.image(
        "w:1",
        tar(member("a/one", b"1"), member("a/two", b"2"), member("b/old", b"o"), member("c", b"c"), folder("d")),
        tar(member("a/.wh.one"), member("b/new", b"n"), member("b/.wh..wh..opq"), folder("c"), link("d", "c")),
    )
    tree = store.tree("w:1")
    found = sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))
    assert found == ["a", "a/two", "b", "b/new", "c", "d"]
    assert (tree / "d").is_symlink()


def test_modes_owners_hard_links_devices(layout: Layout, store: ImageStore) -> None:
    layout.image(
        "m:1",
        tar(
            folder("ro", 0o555),
            member("ro/tool", b"t", mode=0o4755, uid=12, gid=34),
            hard("ro/same", "ro/tool"),
            member("dev/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        ),
    )
    tree = store.tree("m:1")
    tool = (tree / "ro/tool").stat()
    assert tool.st_mode & 0o7777 == 0o4755
    assert tool.st_ino == (tree / "ro/same").stat().st_ino
    if os.geteuid() == 0:
        assert (tree / "ro").stat().st_mode & 0o777 == 0o555
        assert (tool.st_uid, tool.st_gid) == (12, 34)
        assert (tree / "dev/null").is_char_device()


def test_cache_is_used_and_interrupted_work_swept(layout: Layout, store: ImageStore, tmp_path: Path) -> None:
    layout.image("a:1", tar(DISK))
    said: list[Any] = []
    first = store.disk("a:1", progress=said.append)
    assert said == ["unpacking image a:1"]
    for blob in (layout.root / "blobs/sha256").iterdir():
        if blob.read_bytes()[:2] == b"\x1f\x8b":
            blob.unlink()
    assert store.disk("a:1", progress=said.append) == first
    assert len(said) == 1
    (tmp_path / "cache" / "tmp.abc" / "x").mkdir(parents=True)
    store.sweep()
    assert names(tmp_path / "cache") == {first.parent.parent.name}


def test_zstd_layers(layout: Layout, store: ImageStore) -> None:
    layout.image("z:1", zstd.compress(tar(DISK)), compress=False)
    assert store.disk("z:1").read_bytes() == b"raw" * 100


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress])
@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: data[:40] + b"\xff" * 40 + data[80:]])
def test_layers_that_cannot_be_unpacked(
    layout: Layout,
    store: ImageStore,
    tmp_path: Path,
    compress: Callable[[bytes], bytes],
    damage: Callable[[bytes], bytes],
) -> None:
    layout.image("z:1", damage(compress(tar(member("disk/d.img", os.urandom(4096))))), compress=False)
    with pytest.raises(ImageError, match=r"cannot be unpacked|not a readable tar"):
        store.disk("z:1")
    assert list((tmp_path / "cache").iterdir()) == []


def names(cache: Path) -> set[str]:
    return {entry.name for entry in cache.iterdir() if entry.is_dir()}


def test_tree_whose_image_left_is_pruned_unless_a_machine_uses_it(
    layout: Layout, store: ImageStore, tmp_path: Path
) -> None:
    for name in ("stays:1", "leaves:1", "used:1", "renamed:1"):
        layout.image(name, tar(member("disk/d.img", name.encode())))
    trees = {name: store.tree(name).name for name in ("stays:1", "leaves:1", "used:1", "renamed:1")}
    cache = tmp_path / "cache"
    (cache / "unknown").mkdir()
    blobs = set((tmp_path / "images/blobs/sha256").iterdir())
    layout.manifests = layout.manifests[:1] + layout.manifests[3:]
    layout.add(layout.manifests.pop() | {"annotations": {"org.opencontainers.image.ref.name": "new:1"}})
    assert store.prune(()) == []  # each was asked for a moment ago
    later = ImageStore(tmp_path / "images", cache)
    assert later.tree("new:1").name == trees["renamed:1"]
    following = ImageStore(tmp_path / "images", cache)
    assert following.prune({trees["used:1"]}) == [trees["leaves:1"]]
    assert names(cache) == {trees["stays:1"], trees["used:1"], trees["renamed:1"], "unknown"}
    assert following.prune(()) == [trees["used:1"]]
    assert set((tmp_path / "images/blobs/sha256").iterdir()) == blobs
    assert not (cache / f"{trees['leaves:1']}.json").exists()


def test_tree_stays_while_its_archive_does(store: ImageStore, layout: Layout, tmp_path: Path) -> None:
    layout.image("a:1", tar(DISK))
    archive = tmp_path / "images" / "a.tar"
    with tarfile.open(archive, "w") as out:
        out.add(tmp_path / "images" / "index.json", "index.json")
        out.add(tmp_path / "images" / "blobs", "blobs")
    tree = store.tree("oci-archive:a.tar")
    layout.manifests.clear()
    (tmp_path / "images" / "index.json").unlink()
    later = ImageStore(tmp_path / "images", tmp_path / "cache")
    assert later.prune(()) == []
    archive.unlink()
    assert later.prune(()) == [tree.name]
