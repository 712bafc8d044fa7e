"""Removing and unpacking trees that are made to be deep, wide or unremovable."""

from __future__ import annotations

import errno
import io
import logging
import os
import resource
import tracemalloc
from pathlib import Path

import pytest

from polyvisor.agent.errors import ImageError
from polyvisor.agent.files import safepath
from polyvisor.agent.images import unpack
from polyvisor.agent.images.registry import Registries
from polyvisor.agent.images.store import _TMP, ImageStore
from polyvisor.agent.images.unpack import MAX_DEPTH, Unpacker

from ..conftest import folder, link, member, tar

DEEP = 2200
"""Levels; a path (PATH_MAX, 4096 bytes) tells 2048 of them, and Python recurses 1000 times."""


def deep(place: Path, levels: int = DEEP) -> None:
    """Make folders within folders, deeper than any path can tell."""
    place.mkdir()
    current = os.open(place, safepath.DIRECTORY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=current)
        with open("f", "w", opener=lambda name, flags, at=current: os.open(name, flags, dir_fd=at)):
            pass
        following = os.open("d", safepath.DIRECTORY, dir_fd=current)
        os.close(current)
        current = following
    os.close(current)


def test_a_deep_tree_is_removed_with_few_descriptors(tmp_path: Path) -> None:
    deep(tmp_path / "deep")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    there = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (there + 10, hard))
    try:
        safepath.remove_path(tmp_path / "deep")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_a_wide_tree_is_removed_and_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    wide = tmp_path / "wide"
    wide.mkdir()
    for number in range(safepath.MAX_LISTED + 50):
        (wide / f"d{number}").mkdir()
    (wide / "d1" / "link").symlink_to(outside)
    (wide / "d2" / "inner").mkdir()
    (wide / "d2" / "inner").chmod(0)
    (wide / "d2").chmod(0o500)
    safepath.remove_path(wide)
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]
    assert (outside / "kept").read_text() == "kept"


def test_a_sweep_goes_past_what_cannot_be_removed(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(exist_ok=True)
    deep(cache / f"{_TMP}deep")
    (cache / f"{_TMP}stuck").mkdir()
    (cache / f"{_TMP}zz").mkdir()
    remove = safepath.remove

    def stuck(parent: int, name: str) -> None:
        if name.endswith("stuck"):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), name)
        remove(parent, name)

    monkeypatch.setattr(safepath, "remove", stuck)
    with caplog.at_level(logging.ERROR):
        store.sweep()
        Registries(cache).sweep()
    assert [path.name for path in cache.iterdir()] == [f"{_TMP}stuck"]
    assert "cannot be removed" in caplog.text


def unpacked(tmp_path: Path, *layers: bytes, **more: int) -> Path:
    place = tmp_path / "tree"
    place.mkdir()
    with safepath.opened_root(place) as root:
        unpacker = Unpacker(root, **more)
        for layer in layers:
            unpacker.layer(io.BytesIO(layer), "layer")
        unpacker.finish()
    return place


def test_depth_is_limited(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=f"{MAX_DEPTH} are accepted"):
        unpacked(tmp_path, tar(member("/".join("a" * (MAX_DEPTH + 1)))))


def test_depth_is_limited_through_links_too(tmp_path: Path) -> None:
    half = "/".join("a" * (MAX_DEPTH // 2))
    layer = tar(folder(half), link("l", half), member(f"l/{half}/x"), link(f"{half}/m", half), member(f"l/{half}/b/c"))
    with pytest.raises(ImageError, match=f"{MAX_DEPTH} are accepted"):
        unpacked(tmp_path, layer)


def test_folders_on_the_way_count_as_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MAX_ENTRIES", 1000)
    many = [member(f"{number}/" + "/".join("a" * 99)) for number in range(50)]
    with pytest.raises(ImageError, match="more than 1000 entries"):
        unpacked(tmp_path, tar(*many))


def test_bytes_are_limited(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="more than 100 bytes together"):
        unpacked(tmp_path, tar(member("a", bytes(60)), member("b", bytes(60))), most=100)


def test_memory_grows_with_entries_and_not_with_their_depth(tmp_path: Path) -> None:
    layer = tar(*[member(f"{number}/" + "/".join("a" * (MAX_DEPTH - 1))) for number in range(100)])
    tracemalloc.start()
    try:
        unpacked(tmp_path, layer)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 400 * 100 * MAX_DEPTH + (2 << 20)


def test_modes_whiteouts_and_opaque_folders_over_layers(tmp_path: Path) -> None:
    first = tar(folder("d", 0o555), folder("d/e", 0o511), member("d/e/old"), member("d/old"))
    second = tar(member("d/new"), member("d/.wh..wh..opq"), folder("f", 0o500))
    place = unpacked(tmp_path, first, second)
    assert sorted(str(path.relative_to(place)) for path in place.rglob("*")) == ["d", "d/new", "f"]
    assert [oct((place / name).stat().st_mode & 0o777) for name in ("d", "f")] == (
        ["0o555", "0o500"] if os.geteuid() == 0 else ["0o755", "0o700"]
    )
