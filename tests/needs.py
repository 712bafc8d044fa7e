"""What tests need of the machine.

A prerequisite that is missing fails the test, with its name and the command that installs it. A test is skipped only
for what some machines cannot have: :data:`LANES` is the one list of that, and every run ends with a table of what was
skipped. Whatever else skips a test fails it (``tests/conftest.py``).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from polyvisor import prerequisites

TOP = Path(__file__).resolve().parent.parent
LANES = {
    "root": "namespaces, mounts and LXC; `sudo make test` runs these tests, --strict-prerequisites fails them",
    "Cloud Hypervisor": "a libvirt that is built with that driver, and /dev/kvm; no distribution packages it",
    "loop devices": "block devices; containers on some hosts may not use any",
    "device nodes": "containers on some hosts may not make any",
    "huge pages": "memory that the kernel can set aside in large pieces at this moment",
    "two CPUs": "a CPU that guests can have to themselves",
    "control groups v1": "block devices hot-plugged in Pods, containers' groups; hosts with control groups of v2",
    "control groups v2": "a launcher's list of devices there; hosts that mount none, or permit no programs in them",
    "newer libvirt": "the schema of a domain's XML in a libvirt newer than this one",
    "no /dev/vhost-vsock": "what is said where the device is missing; hosts that have it",
}
"""What a machine may lack without being set up wrongly -> what is tested with it, or why it may lack it."""
SHOW = """
set -e
path=$PATH PATH=/usr/sbin:/usr/bin:/sbin:/bin top=$1
mount --bind "$top" /mnt
mount -t tmpfs -o mode=755 tmpfs "$2"
mkdir -p "$top"
mount --move /mnt "$top"
cd "$top"
PATH=$path
shift 2
exec "$@"
"""


def absent(lane: str, reason: str) -> NoReturn:
    """Skip a test of one of the lanes."""
    assert lane in LANES, f"{lane!r} is not in tests/needs.py"
    pytest.skip(f"{lane}: {reason}")


def unmet(reason: str) -> NoReturn:
    """Fail a test for want of something that the machine should have."""
    pytest.fail(reason, pytrace=False)


def need(*names: str) -> None:
    """Fail the test if a program or file of the list of prerequisites is missing."""
    for name in names:
        found = [entry for entry in prerequisites.everything() if name in (*entry.programs, *entry.files)]
        assert found, f"{name} is not in {prerequisites.LIST.name}"
        if found[0].missing():
            unmet(told(found))


def need_root(strict: bool = False) -> None:
    """Skip a test that needs root, or fail it."""
    if os.geteuid() == 0:
        return
    if strict:
        unmet("this test needs root: sudo make test")
    absent("root", "this test needs root")


def open_tree() -> tuple[str, ...]:
    """Return what goes before a command that runs this tree as another user; empty where every user can enter it.

    Else, as in a clone below /root, the command gets mounts of its own, in which nothing but the tree is below the
    closed folder.
    """
    closed = [folder for folder in (TOP, *TOP.parents) if not folder.stat().st_mode & 0o001]
    if TOP in closed:
        unmet(f"other users cannot enter {TOP}, and this test runs the tree as one: chmod o+x {TOP}")
    return ("/usr/bin/unshare", "--mount", "/bin/sh", "-c", SHOW, "sh", str(TOP), str(closed[-1])) if closed else ()


def missing(lists: Sequence[str] = ("environment", "machine")) -> list[prerequisites.Prerequisite]:
    """Return what set-up would install on this machine."""
    return [entry for entry in prerequisites.everything() if set(lists) & set(entry.lists) and entry.missing()]


def told(entries: Sequence[prerequisites.Prerequisite]) -> str:
    """Return what is missing and the command that installs it."""
    names = ", ".join(name for entry in entries for name in entry.missing())
    command = prerequisites.install_command(entries)
    return f"{names} missing" + (f": {command}" if command else "")
