"""The files of a root file system that get the ids of their guest on disk, where they cannot be mapped."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyvisor.agent.errors import AgentError
from polyvisor.agent.files import shifting
from polyvisor.agent.storage.making import Inputs, prepare
from polyvisor.agent.storage.sources import Places
from polyvisor.drivers.lxc import LxcDriver
from tests.needs import need_root

from ..conftest import Layout, Make, member, tar

FIRST = 0x70010000
NET_RAW = struct.pack("<IIIII", shifting.REVISION_2 | 1, 1 << 13, 0, 0, 0)
"""What ``setcap cap_net_raw+ep`` writes."""


@pytest.fixture(autouse=True)
def _root() -> None:
    need_root()


@pytest.fixture
def ramfs(tmp_path: Path) -> Iterator[Path]:
    """A file system that has no id-mapped mounts."""
    folder = tmp_path / "ramfs"
    folder.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "none", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)


def test_every_file_changes_hands_once_and_keeps_what_it_may(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "su").write_text("x")
    os.chown(root / "bin" / "su", 0, 42)
    (root / "bin" / "su").chmod(0o6755)
    (root / "bin" / "same").hardlink_to(root / "bin" / "su")
    (root / "bin" / "ping").write_text("x")
    os.setxattr(root / "bin" / "ping", shifting.CAPABILITIES, NET_RAW)
    outside = tmp_path / "outside"
    outside.write_text("the node's")
    (root / "link").symlink_to(outside)
    (root / "home").mkdir()
    os.chown(root / "home", 1000, 1000)
    shifting.shift(opened(root), FIRST)

    def owner(path: Path) -> tuple[int, int]:
        info = path.lstat()
        return info.st_uid - FIRST, info.st_gid - FIRST

    assert owner(root) == (0, 0)
    assert owner(root / "bin" / "su") == owner(root / "bin" / "same") == (0, 42)
    assert stat.S_IMODE((root / "bin" / "su").stat().st_mode) == 0o6755
    assert owner(root / "link") == (0, 0)
    assert owner(root / "home") == (1000, 1000)
    assert outside.stat().st_uid == 0
    expected = struct.pack("<IIIIII", shifting.REVISION_3 | 1, 1 << 13, 0, 0, 0, FIRST)
    assert os.getxattr(root / "bin" / "ping", shifting.CAPABILITIES) == expected


def test_an_owner_that_a_container_cannot_have_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    os.chown(file, 70000, 0)
    with pytest.raises(AgentError, match="'file' in the root file system belongs to 70000:0"):
        shifting.shift(opened(tmp_path), FIRST)


def test_a_file_system_without_id_mapped_mounts_is_known_by_trying(ramfs: Path) -> None:
    why = shifting.why_unmapped(opened(ramfs))
    assert "has no id-mapped mounts" in why
    assert "(mount_setattr, errno 22)" in why


def test_a_root_where_ids_cannot_be_mapped_is_a_shifted_copy(
    layout: Layout, places: Places, home: Path, make_vmi: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout.image("a:1", tar(member("sbin/init", b"init")))
    vmi = make_vmi({"name": "root", "containerDisk": {"image": "a:1"}})
    monkeypatch.setattr(shifting, "why_unmapped", lambda _: "ramfs has none")
    said: list[str] = []
    made = prepare(vmi, LxcDriver(), home, places, Inputs(first_id=FIRST), said.append)
    assert made.shifted
    assert made.first_id == FIRST
    assert made.root
    assert {path.lstat().st_uid for path in (made.root, *made.root.rglob("*"))} == {FIRST}
    assert any("as ramfs has none" in text for text in said)
    assert prepare(vmi, LxcDriver(), home, places, Inputs(first_id=FIRST)) == made


def test_a_root_whose_ids_are_mapped_stays_as_it_is_on_disk(
    layout: Layout, places: Places, home: Path, make_vmi: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout.image("a:1", tar(member("sbin/init", b"init")))
    vmi = make_vmi({"name": "root", "containerDisk": {"image": "a:1"}})
    monkeypatch.setattr(shifting, "why_unmapped", lambda _: "")
    made = prepare(vmi, LxcDriver(), home, places, Inputs(first_id=FIRST))
    assert not made.shifted
    assert made.root
    assert made.root.stat().st_uid == 0


def test_what_an_earlier_release_made_ready_gets_ids(
    layout: Layout, places: Places, home: Path, make_vmi: Make
) -> None:
    layout.image("a:1", tar(member("sbin/init", b"init")))
    vmi = make_vmi({"name": "root", "containerDisk": {"image": "a:1"}})
    before = prepare(vmi, LxcDriver(), home, places, Inputs())
    assert before.first_id == 0
    after = prepare(vmi, LxcDriver(), home, places, Inputs(first_id=FIRST))
    assert (after.first_id, after.shifted, after.root) == (FIRST, False, before.root)
