"""What a clean room is given of its host, and what it is not."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import clean_room
import pytest

DEB822 = """\
# a comment
Types: deb
URIs: http://mirror.test/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
ENTRIES = """\
# The list.

[[package]]
debian = "genisoimage"
programs = ["genisoimage|xorrisofs"]

[[package]]
debian = "swtpm"
programs = ["swtpm"]

[[package]]
debian = "genisoimage"
programs = ["isoinfo"]
"""


def _etc(folder: Path, **files: str) -> Path:
    (folder / "apt/sources.list.d").mkdir(parents=True)
    (folder / "os-release").write_text("ID=debian\nVERSION_CODENAME=bookworm\n")
    for name, text in files.items():
        (folder / "apt/sources.list.d" / name.replace("_", ".")).write_text(text)
    return folder


def test_sources_are_those_of_the_wanted_release(tmp_path: Path) -> None:
    found = clean_room.sources("trixie", _etc(tmp_path, debian_sources=DEB822))
    assert list(found) == ["debian.sources"]
    assert "Suites: trixie trixie-updates\n" in found["debian.sources"]
    assert "bookworm" not in found["debian.sources"]


@pytest.mark.parametrize(
    "foreign",
    [
        DEB822.replace("debian-archive-keyring", "docker"),
        "deb [signed-by=/etc/apt/keyrings/x.gpg] https://packages.test bookworm main\n",
        DEB822.replace("bookworm bookworm-updates", "nodistro"),
    ],
)
def test_packages_that_are_not_debians_are_left_out(tmp_path: Path, foreign: str) -> None:
    found = clean_room.sources("bookworm", _etc(tmp_path, debian_sources=DEB822, foreign_sources=foreign))
    assert list(found) == ["debian.sources"]


def test_a_host_without_debians_sources_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(clean_room.RoomError, match="names no source of Debian's packages"):
        clean_room.sources("bookworm", _etc(tmp_path))


def test_variables_that_say_how_registries_are_reached_are_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.test:3128")
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.test")
    monkeypatch.setenv("PIP_FIND_LINKS", "/opt/wheels")
    monkeypatch.setenv("POLYVISOR_STATE_DIR", "/somewhere")
    monkeypatch.setenv("VENV", "/somewhere/.venv")
    found = clean_room.environment()
    assert found["https_proxy"] == "http://proxy.test:3128"
    assert found["PIP_INDEX_URL"] == "https://index.test"
    assert {"PIP_FIND_LINKS", "POLYVISOR_STATE_DIR", "VENV"} & set(found) == set()
    assert found["HOME"] == "/root"


def test_a_package_is_left_out_of_the_list_with_all_its_entries(tmp_path: Path) -> None:
    listed = tmp_path / "packages.toml"
    listed.write_text(ENTRIES)
    clean_room.forget(listed, "genisoimage")
    assert "genisoimage" not in listed.read_text()
    assert 'debian = "swtpm"' in listed.read_text()


def test_a_package_that_is_not_in_the_list_cannot_be_left_out(tmp_path: Path) -> None:
    listed = tmp_path / "packages.toml"
    listed.write_text(ENTRIES)
    with pytest.raises(clean_room.RoomError, match="no entry for isoimage"):
        clean_room.forget(listed, "isoimage")
    assert listed.read_text() == ENTRIES


def test_the_copy_is_what_git_would_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree, root = tmp_path / "tree", tmp_path / "root"
    tree.mkdir()
    subprocess.run(["git", "init", "--quiet", tree], check=True)
    for name in ("committed", "removed", "new", "ignored"):
        (tree / name).write_text(name)
    (tree / ".gitignore").write_text("ignored\n")
    (tree / "link").symlink_to("committed")
    subprocess.run(["git", "-C", tree, "add", "committed", "removed", "link", ".gitignore"], check=True)
    (tree / "committed").write_text("changed since")
    (tree / "removed").unlink()
    monkeypatch.setattr(clean_room, "TOP", tree)
    clean_room.copy_tree(root, [])
    copy = root / clean_room.HOME
    assert {path.name for path in copy.iterdir()} == {"committed", "new", "link", ".gitignore"}
    assert (copy / "committed").read_text() == "changed since"
    assert (copy / "link").readlink() == Path("committed")


def test_a_room_that_stays_gets_the_tree_anew_and_keeps_what_was_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, copy = tmp_path / "tree", tmp_path / "root" / clean_room.HOME
    for name in ("old/gone", "old/there"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    subprocess.run(["git", "init", "--quiet", tree], check=True)
    monkeypatch.setattr(clean_room, "TOP", tree)
    clean_room.copy_tree(tmp_path / "root", [])
    (copy / ".venv").mkdir()
    (tree / "old/gone").unlink()
    clean_room.copy_tree(tmp_path / "root", [])
    assert {str(path.relative_to(copy)) for path in copy.rglob("*")} == {"old", "old/there", ".venv"}


def test_the_tests_that_a_room_runs_and_leaves_out_are_there() -> None:
    named = re.findall(r"tests/[\w/.]+", (clean_room.PARTS / "steps").read_text())
    assert len(named) > 10
    assert [name for name in named if not (clean_room.TOP / name).exists()] == []
