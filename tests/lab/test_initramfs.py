"""The initramfs of a host: which modules it has, and in which order they are loaded."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

from tests.lab import initramfs


def test_modules_are_found_compressed_or_not(tmp_path: Path) -> None:
    (tmp_path / "fs").mkdir()
    (tmp_path / "fs/ext4.ko").write_bytes(b"plain")
    (tmp_path / "virtio-blk.ko.xz").write_bytes(lzma.compress(b"packed"))
    assert initramfs.read_modules(tmp_path) == {"ext4": b"plain", "virtio_blk": b"packed"}


def test_a_module_comes_after_those_that_it_depends_on() -> None:
    modules = {"ext4": b"\0depends=jbd2,mbcache\0", "jbd2": b"\0depends=\0", "mbcache": b"\0depends=\0", "sound": b""}
    packed = gzip.decompress(initramfs.make(modules, b"busybox"))
    order = packed.index(b"/lib/modules/jbd2.ko\n"), packed.index(b"/lib/modules/ext4.ko\n")
    assert order == tuple(sorted(order))
    assert b"lib/modules/sound.ko" not in packed
