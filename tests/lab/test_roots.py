"""What a root in the cache is known by."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.lab import roots
from tests.lab.errors import LabError
from tests.lab.lanes import kvm
from tests.lab.making import Recipe
from tests.lab.roots import Root

SAID = """\
Inst libc6 (2.36-9+deb12u14 Debian:12.15/oldstable [amd64]) []
Inst gcc-12-base (12.2.0-14+deb12u1 Debian:12.15/oldstable [amd64])
Conf libc6 (2.36-9+deb12u14 Debian:12.15/oldstable [amd64])
"""


def test_apt_tells_what_it_would_install() -> None:
    assert roots.simulated(SAID) == "gcc-12-base 12.2.0-14+deb12u1\nlibc6 2.36-9+deb12u14"


def test_a_root_is_made_anew_when_something_of_it_changes(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("one")
    recipe = Recipe("kvm", "bookworm", ("python3",), python=tmp_path)
    known = roots.key(recipe, "libc6 1")
    assert known == roots.key(recipe, "libc6 1")
    assert known != roots.key(recipe, "libc6 2")
    assert known != roots.key(Recipe("kvm", "trixie", ("python3",), python=tmp_path), "libc6 1")
    (tmp_path / "module.py").write_text("two")
    assert known != roots.key(recipe, "libc6 1")


def test_versions_are_shown_without_the_distributions_revision(tmp_path: Path) -> None:
    (tmp_path / "versions").write_text(
        "qemu-system-x86 1:7.2+dfsg-7+deb12u18\nxen 4.17.7+13-g2445b30a44-0\nlibc6 2.36-9\n"
    )
    assert Root(tmp_path).versions("qemu-system-x86", "xen") == {"qemu-system-x86": "7.2", "xen": "4.17.7"}


def test_the_host_has_what_set_up_installs_for_the_driver() -> None:
    assert {"qemu-system-x86", "libvirt-daemon-driver-qemu", "genisoimage", "linux-image-amd64"} <= set(kvm.packages())
    assert "libvirt-daemon-driver-xen" not in kvm.packages()


def test_making_roots_requires_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LabError, match="requires root: sudo make lab"):
        roots.root(Recipe("kvm", "bookworm", ("python3",)))
