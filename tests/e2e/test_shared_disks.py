"""A disk that two machines share: each guest sees what the other one writes. One that is not shared has one machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from polyvisor.domain import DiskSource
from tests.drivers.feature_machines import Guest
from tests.drivers.feature_run import start
from tests.folders import short_folder

pytestmark = pytest.mark.e2e

SECONDS = 120


@pytest.fixture
def image() -> Iterator[DiskSource]:
    with short_folder() as base:
        (base / "scratch").mkdir()
        path = base / "shared.img"
        path.write_bytes(bytes(1 << 20))
        yield DiskSource(path, "raw")


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
            one = start(word, guest(word, place, shareable=True), image.path.parent, {"shared": image})
            stack.callback(one.close)
            running.append(one)
        for one in running:
            one.says(b"SHARED one two.", SECONDS)
    assert image.path.read_bytes()[4096:4100] == b"one\n"


def test_a_disk_that_is_not_shared_has_one_machine(image: DiskSource) -> None:
    with ExitStack() as stack:
        first = start("one", guest("one", 1), image.path.parent, {"shared": image})
        stack.callback(first.close)
        first.says(b"SHARED one .", SECONDS)
        with pytest.raises(AssertionError, match="lock"):
            start("two", guest("two", 2), image.path.parent, {"shared": image})
