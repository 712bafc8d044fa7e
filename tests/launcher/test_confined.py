"""Where a domain's processes may run, for a libvirt that is played and processes that are real."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from polyvisor.launcher.confined import confine
from polyvisor.launcher.machine import Refused

ALL = os.sched_getaffinity(0)
ONE = min(ALL)


class NoSuchCall(libvirt.libvirtError):  # type: ignore[misc]
    def __init__(self) -> None:
        Exception.__init__(self, "refused")

    def get_error_code(self) -> int:
        return int(libvirt.VIR_ERR_NO_SUPPORT)


class Domain:
    def __init__(self, first: int, *, pins: bool) -> None:
        self.first, self.pins = first, pins
        self.pinned: list[tuple[Any, ...]] = []

    def domain(self) -> Domain:
        return self

    def ID(self) -> int:
        return self.first

    def maxVcpus(self) -> int:
        return 2

    def pinVcpu(self, number: int, mask: tuple[bool, ...]) -> None:
        if not self.pins:
            raise NoSuchCall
        self.pinned.append((number, mask))

    def pinEmulator(self, mask: tuple[bool, ...]) -> None:
        self.pinned.append(("emulator", mask))


@pytest.fixture
def child(tmp_path: Path) -> Iterator[int]:
    """A process with a child of its own, and no word of the folder."""
    process = subprocess.Popen(["sh", "-c", "sleep 1000 & echo begun; wait"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process.pid
    for pid in (*_children(process.pid), process.pid):
        os.kill(pid, 9)
    process.wait()
    process.stdout.close()


@pytest.fixture(autouse=True)
def freed() -> Iterator[None]:
    yield
    for task in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(task.name), ALL)


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_what_has_a_path_below_the_folder_moves_and_libvirt_knows(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = subprocess.Popen(["cat", pipe])  # which waits for a writer
    try:
        domain = Domain(1, pins=True)
        confine(domain, tmp_path, [ONE])  # type: ignore[arg-type]
        mask = (*(False,) * ONE, True)
        assert domain.pinned == [(0, mask), (1, mask), ("emulator", mask)]
        assert os.sched_getaffinity(process.pid) == os.sched_getaffinity(0) == {ONE}
    finally:
        process.kill()
        process.wait()


def test_a_domain_that_is_a_tree_of_processes_moves_as_a_whole(tmp_path: Path, child: int) -> None:
    confine(Domain(child, pins=False), tmp_path, [ONE])  # type: ignore[arg-type]
    assert [os.sched_getaffinity(pid) for pid in (child, *_children(child))] == [{ONE}, {ONE}]
    confine(Domain(child, pins=False), tmp_path, sorted(ALL))  # type: ignore[arg-type]
    assert [os.sched_getaffinity(pid) for pid in (child, *_children(child))] == [ALL, ALL]


@pytest.mark.parametrize("cpus", [None, [], [-1], ["0"], [True], [1 << 20]])
def test_nothing_but_cpus_is_taken(tmp_path: Path, cpus: Any) -> None:
    with pytest.raises(Refused, match="numbers of CPUs"):
        confine(Domain(1, pins=True), tmp_path, cpus)  # type: ignore[arg-type]
