"""A container's files where ids cannot be mapped as they are mounted: on disk they have them, or nothing starts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyvisor.agent.files import shifting
from polyvisor.agent.images.store import ImageStore
from polyvisor.domain import DomainContext, render
from polyvisor.domain.ids import TRIAL
from polyvisor.drivers.lxc import LxcDriver
from polyvisor.testing import bench
from tests.drivers.feature_guest import END, facts
from tests.drivers.kit import machine
from tests.needs import need_root

DRIVER = LxcDriver()
ROOTFS = "localhost/polyvisor/demo-rootfs:1"
INIT = """#!/bin/sh
export PATH=/bin:/sbin
echo "FACT owner $(stat -c %u:%g /sbin/init)"
touch /written && echo "FACT written $(stat -c %u /written)"
echo "FACT end"
exec sleep 1000000
"""


@pytest.fixture
def ramfs(tmp_path: Path, store: ImageStore) -> Iterator[Path]:
    """A root on a file system without id-mapped mounts."""
    need_root()
    folder = tmp_path / "ramfs"
    folder.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "none", folder], check=True)
    root = folder / "root"
    subprocess.run(["cp", "-a", "-T", store.tree(ROOTFS), root], check=True)
    (root / "sbin" / "init").unlink()
    (root / "sbin" / "init").write_text(INIT)
    (root / "sbin" / "init").chmod(0o755)
    yield root
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_root_that_has_the_ids_on_disk_is_the_containers_own(ramfs: Path) -> None:
    root = os.open(ramfs, os.O_RDONLY | os.O_DIRECTORY)
    assert "errno 22" in shifting.why_unmapped(root)
    shifting.shift(root, TRIAL)
    os.close(root)
    vmi = machine(DRIVER)
    with bench(DRIVER, vmi) as one:
        xml = render(vmi, DRIVER, DomainContext("lxc", root=ramfs, root_volume="root", shifted=True))
        assert one.launch().result("start", xml=xml)["state"] == "running"
        one.says(END)
        seen = facts(one.console_log())
    assert (seen["owner"], seen["written"]) == ("0:0", "0")
    assert (ramfs / "written").stat().st_uid == TRIAL


def test_a_folder_that_cannot_be_mapped_stops_the_start_and_is_named(ramfs: Path) -> None:
    vmi = machine(DRIVER)
    with bench(DRIVER, vmi) as one:
        xml = render(vmi, DRIVER, DomainContext("lxc", root=ramfs, root_volume="root"))
        answer = one.launch().ask("start", xml=xml)
        assert answer["error"]["message"] == (
            f"{ramfs}: its file system or this kernel ({os.uname().release}) has no id-mapped mounts, which containers "
            "need (mount_setattr, errno 22)"
        )
