"""Keeping a domain that runs on some of the node's CPUs, when others have become another machine's own.

libvirt is told first, so that it stays so for CPUs that a guest may come to have. Without control groups it moves but
the first thread of what emulates the rest, so each thread of the domain's processes is moved as well: these have a path
below the launcher's folder among their arguments, or are a tree whose first process has the domain's number.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import libvirt

from polyvisor.launcher.machine import Machine, Refused

PROC = Path("/proc")


def confine(machine: Machine, folder: Path, cpus: Any) -> None:
    """Have the domain, and this launcher, run on ``cpus`` alone."""
    if not isinstance(cpus, list) or not cpus or not all(type(cpu) is int and 0 <= cpu < 65536 for cpu in cpus):
        raise Refused("bad-request", "cpus is to be a list of the numbers of CPUs")
    domain = machine.domain()
    mask = tuple(number in cpus for number in range(max(cpus) + 1))
    try:
        for number in range(domain.maxVcpus()):
            domain.pinVcpu(number, mask)
        domain.pinEmulator(mask)
        first = os.getpid()
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
        first = domain.ID()
    for pid in {os.getpid(), *_tree(first), *_named(folder)}:
        _move(pid, cpus)


def _move(pid: int, cpus: list[int]) -> None:
    with suppress(OSError):  # it has ended, or a thread of it
        for task in (PROC / str(pid) / "task").iterdir():
            with suppress(OSError):
                os.sched_setaffinity(int(task.name), cpus)


def _named(folder: Path) -> Iterator[int]:
    """Give the processes that were begun with a path below the launcher's folder."""
    below = os.fsencode(f"{folder}/")
    for process in PROC.glob("[0-9]*"):
        with suppress(OSError):
            if below in (process / "cmdline").read_bytes():
                yield int(process.name)


def _tree(pid: int) -> Iterator[int]:
    """Give a process and all that it began."""
    yield pid
    with suppress(OSError):
        for children in (PROC / str(pid) / "task").glob("*/children"):
            for child in children.read_text().split():
                yield from _tree(int(child))
