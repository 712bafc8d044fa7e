"""A launcher has libvirt ask the emulator of this machine's architecture what it can do, and no other."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyvisor.drivers.qemu.plan import CACHE, foreign_emulators, launcher_plan
from polyvisor.drivers.trial import Trial

NATIVE = f"qemu-system-{os.uname().machine}"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that PATH names first."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.fixture
def short() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="pv", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def add(folder: Path, name: str, text: str = "") -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def test_emulators_of_other_architectures_are_found(tmp_path: Path) -> None:
    for name in (
        "qemu-system-i386",
        "qemu-system-x86_64",
        "qemu-system-x86_64-microvm",
        "qemu-system-aarch64",
        "qemu-img",
    ):
        add(tmp_path, name)
    path = f"{tmp_path}{os.pathsep}{os.pathsep}/nonexistent"
    assert foreign_emulators(path, "x86_64") == ["qemu-system-aarch64", "qemu-system-i386"]
    assert "qemu-system-i386" not in foreign_emulators(path, "i386")


def test_they_are_hidden_from_a_launcher_of_this_host_and_nothing_else_is(programs: Path, tmp_path: Path) -> None:
    add(programs, "qemu-system-made-up")
    plan = launcher_plan(tmp_path / "l", tmp_path)
    assert "bin/qemu-system-made-up" in plan.links
    assert f"bin/{NATIVE}" not in plan.links
    assert plan.environment["PATH"] == f"{tmp_path}/l/bin{os.pathsep}{os.environ['PATH']}"
    in_pod = launcher_plan(tmp_path / "l", None)
    assert (in_pod.links, "PATH" in in_pod.environment) == ({}, False)


def test_where_there_are_none_nothing_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    add(tmp_path, NATIVE)
    add(tmp_path, "false")
    plan = launcher_plan(tmp_path / "l", tmp_path)
    assert ("PATH" in plan.environment, plan.links) == (False, {})


def test_libvirt_asks_one_emulator_alone(programs: Path, short: Path) -> None:
    asked = short / "asked"
    add(programs, "qemu-system-aarch64", f"#!/bin/sh\necho $0 >> {asked}\nexit 1\n")
    with Trial(short / "t", launcher_plan(short / "t", short), "tried") as trial:
        assert trial.versions.libvirt
        assert len(list((short / "t" / CACHE).iterdir())) == 1
    assert not asked.exists()
