"""What is written into roots: in a copy of an image, in a claim that others write to, and never outside of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyvisor.agent.files.safepath import opened_root
from polyvisor.agent.storage import rootfs
from polyvisor.agent.storage.making import Inputs, prepare
from polyvisor.agent.storage.sources import Places
from polyvisor.api import Obj

from ..conftest import Layout, Make, TreeDriver, folder, member, tar

TEXT = "nameserver 10.96.0.10\nsearch default.svc.cluster.local\n"


def resolver(root: Path, text: str = TEXT, *, private: bool) -> None:
    with opened_root(root) as opened:
        rootfs.write_resolver(opened, text, private=private)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "etc").mkdir(parents=True)
    return tmp_path / "root"


@pytest.mark.parametrize("private", [True, False])
def test_a_root_without_a_resolver_gets_one(root: Path, private: bool) -> None:
    (root / "etc").rmdir()
    resolver(root, private=private)
    found = root / "etc/resolv.conf"
    assert found.read_text().endswith(f"\n{TEXT}")
    assert found.stat().st_mode & 0o777 == 0o644
    resolver(root, "nameserver 10.96.0.11\n", private=private)
    assert found.read_text().endswith("\nnameserver 10.96.0.11\n"), "what was written here before is brought up to date"


def test_what_a_user_says_in_a_claim_stays(root: Path) -> None:
    found = root / "etc/resolv.conf"
    found.touch()
    resolver(root, private=False)
    assert found.read_text().endswith(TEXT), "an empty file says nothing"
    found.write_text("nameserver 192.0.2.1\n")
    resolver(root, private=False)
    assert found.read_text() == "nameserver 192.0.2.1\n"
    resolver(root, private=True)
    assert found.read_text().endswith(TEXT), "an image's is of the machine that made the image"


def test_links_lead_nowhere(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("untouched")
    found = root / "etc/resolv.conf"
    found.symlink_to(outside)
    resolver(root, private=False)
    assert found.is_symlink(), "a claim's link is somebody's choice"
    resolver(root, private=True)
    assert not found.is_symlink()
    assert outside.read_text() == "untouched"


def test_without_servers_nothing_is_written(root: Path) -> None:
    resolver(root, "", private=True)
    assert not list((root / "etc").iterdir())


@pytest.mark.parametrize("volume", [{"containerDisk": {"image": "t:1"}}, {"persistentVolumeClaim": {"claimName": "c"}}])
def test_root_filesystem_knows_where_names_are_looked_up(
    layout: Layout, places: Places, home: Path, make_vmi: Make, volume: Obj
) -> None:
    seed = {"name": "init", "cloudInitNoCloud": {"userData": "#cloud-config\npassword: s3cret\n"}}
    layout.image("t:1", tar(folder("etc"), member("etc/resolv.conf", b"nameserver 192.0.2.1")))
    inputs = Inputs(claims={"c": {}}, resolver="nameserver 10.96.0.10\n")
    prepared = prepare(make_vmi({"name": "root", **volume}, seed), TreeDriver(), home, places, inputs)
    assert prepared.root
    assert (prepared.root / "etc/resolv.conf").read_text().endswith("\nnameserver 10.96.0.10\n")
    assert "s3cret" in (prepared.root / "var/lib/cloud/seed/nocloud/user-data").read_text()
