"""A disk that two machines share: each guest sees what the other one writes. One that is not shared has one machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from polyvisor.domain import DiskSource
from tests.drivers.feature_machines import Guest
from tests.drivers.feature_run import start

pytestmark = pytest.mark.e2e

BASE = Path("/tmp/pvs")
SECONDS = 120


@pytest.fixture
def image() -> Iterator[DiskSource]:
    shutil.rmtree(BASE, ignore_errors=True)
    (BASE / "scratch").mkdir(parents=True, mode=0o700)
    path = BASE / "shared.img"
    path.write_bytes(bytes(1 << 20))
    yield DiskSource(path, "raw")
    shutil.rmtree(BASE)


def guest(word: str, place: int, **disk: Any) -> Guest:
    disks = [{"name": "shared", "disk": {"bus": "virtio"}, **disk}]
    devices = {"autoattachPodInterface": False, "disks": disks}
    spec = {"volumes": [{"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}}]}
    return Guest(
        {"memory": {"guest": "160Mi"}, "devices": devices}, spec=spec, args=f"then=share say={word} at={place}"
    )


def test_each_guest_sees_what_the_other_writes(image: DiskSource) -> None:
    with ExitStack() as stack:
        running = []
        for word, place in (("one", 1), ("two", 2)):
            one = start(word, guest(word, place, shareable=True), BASE, {"shared": image})
            stack.callback(one.close)
            running.append(one)
        for one in running:
            one.says(b"SHARED one two.", SECONDS)
    assert image.path.read_bytes()[4096:4100] == b"one\n"


def test_a_disk_that_is_not_shared_has_one_machine(image: DiskSource) -> None:
    with ExitStack() as stack:
        first = start("one", guest("one", 1), BASE, {"shared": image})
        stack.callback(first.close)
        first.says(b"SHARED one .", SECONDS)
        with pytest.raises(AssertionError, match="lock"):
            start("two", guest("two", 2), BASE, {"shared": image})
