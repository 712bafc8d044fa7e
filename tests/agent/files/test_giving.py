"""What is given to a machine's own user, and that nothing else comes with it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from polyvisor.agent.errors import UnsafePath
from polyvisor.agent.files import giving, safepath

pytestmark = pytest.mark.root
USER = 0x70010000


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def owner(path: Path) -> int:
    return path.lstat().st_uid


@pytest.fixture
def top(tmp_path: Path) -> Path:
    top = tmp_path / "volumes"
    (top / "ns/claim").mkdir(parents=True)
    for folder in (top, top / "ns", top / "ns/claim"):
        folder.chmod(0o700)
    return top


def test_a_file_and_the_way_to_it_are_given(top: Path) -> None:
    disk, other = top / "ns/claim/disk.img", top / "ns/claim/other"
    for file in (disk, other):
        file.write_bytes(b"x")
        file.chmod(0o600)
    giving.give_file(top, disk, USER)
    assert (owner(disk), mode(disk), owner(other), owner(disk.parent)) == (USER, 0o600, os.geteuid(), os.geteuid())
    assert [mode(folder) for folder in (top, top / "ns", top / "ns/claim")] == [0o701] * 3
    assert mode(top.parent) & stat.S_IXOTH == mode(top.parent) & stat.S_IXOTH


def test_an_image_is_shown_to_all_and_given_to_nobody(top: Path) -> None:
    image = top / "ns/claim/disk.qcow2"
    image.write_bytes(b"x")
    image.chmod(0o400)
    giving.show_file(top, image)
    assert (owner(image), mode(image)) == (os.geteuid(), 0o444)


@pytest.mark.parametrize("where", ["ns/claim/disk.img", "ns/claim", "ns"])
def test_a_link_on_the_way_is_not_followed(top: Path, tmp_path: Path, where: str) -> None:
    target = tmp_path / "host"
    (target / "claim").mkdir(parents=True)
    for each in ("disk.img", "claim/disk.img"):
        (target / each).write_bytes(b"the host's")
    link = top / where
    if link.is_dir():
        for inner in sorted(link.rglob("*"), reverse=True):
            inner.rmdir()
        link.rmdir()
    link.symlink_to({"ns/claim/disk.img": target / "disk.img", "ns/claim": target, "ns": target}[where])
    with pytest.raises((UnsafePath, NotADirectoryError)):
        giving.give_file(top, top / "ns/claim/disk.img", USER)
    assert {owner(path) for path in (target, *target.rglob("*"))} == {os.geteuid()}


def test_a_folder_is_given_with_all_in_it_but_what_has_another_name(top: Path, tmp_path: Path) -> None:
    state, host = top / "ns/claim/tpm", tmp_path / "shadow"
    (state / "deep").mkdir(parents=True)
    host.write_bytes(b"the host's")
    (state / "deep/file").write_bytes(b"x")
    (state / "link").symlink_to(host)
    os.link(host, state / "hard")
    giving.give_folder(top, state, USER)
    assert {owner(path) for path in (state, state / "deep", state / "deep/file", state / "link")} == {USER}
    assert owner(host) == os.geteuid()


def test_a_tree_is_shown_and_need_not_be_there(top: Path) -> None:
    (top / "ns/claim/a").mkdir(mode=0o700)
    (top / "ns/claim/a/b.xml").write_text("x")
    (top / "ns/claim/a/b.xml").chmod(0o600)
    giving.show_tree(top, top / "ns/claim")
    giving.show_tree(top, top / "ns/missing")
    assert mode(top / "ns/claim/a") & 0o005 == 0o005
    assert (mode(top / "ns/claim/a/b.xml"), owner(top / "ns/claim/a/b.xml")) == (0o644, os.geteuid())


@pytest.mark.parametrize(("deep", "many"), [(1500, 1), (1, 20000)])
def test_a_folder_that_no_state_of_a_machine_can_be_is_refused(top: Path, deep: int, many: int) -> None:
    state = top / "ns/claim/tpm"
    state.mkdir()
    at = os.open(state, os.O_RDONLY)
    for _ in range(deep):
        os.mkdir("d", dir_fd=at)
        inner = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    for number in range(many):
        os.mknod(str(number), dir_fd=at)
    os.close(at)
    try:
        with pytest.raises(UnsafePath, match="more than"):
            giving.give_folder(top, state, USER)
    finally:  # pytest's own removal goes down by recursion
        safepath.remove_path(state)
