"""The processes of this machine, by the Pod whose control group they are in."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.components import wakes
from bench.idle import ticks
from bench.memory import KIB, pss

TICK = os.sysconf("SC_CLK_TCK")
HYPERVISORS = ("qemu-system-", "qemu-kvm")
PAUSE = "pause"


@dataclass(frozen=True)
class Process:
    """One process as it is now."""

    pid: int
    name: str
    """Its program, and where that is an interpreter, what it runs."""
    pss: float
    """MiB."""
    cpu: float
    """Seconds, of its threads."""
    wakes: int
    """How often its threads went to sleep by themselves and were woken up."""
    started: float
    """Seconds since the machine started."""

    @property
    def is_hypervisor(self) -> bool:
        """Whether it runs a guest."""
        return self.name.startswith(HYPERVISORS)


def of_pod(uid: str) -> list[Process]:
    """Return a Pod's processes but for the one that holds its namespaces."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, AttributeError, IndexError):  # it has ended meanwhile
            groups = (folder / "cgroup").read_text()
            if uid in groups or uid.replace("-", "_") in groups:
                found.append(_read(folder))
    return sorted((one for one in found if one.name != PAUSE), key=lambda one: one.pid)


def cpu_by_program() -> Counter[str]:
    """Return program -> CPU seconds of all processes of this machine, with those of their children that have ended."""
    found: Counter[str] = Counter()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            fields = _stat(folder)
            found[_name(folder)] += sum(map(int, fields[11:15])) / TICK
    return found


def _read(folder: Path) -> Process:
    fields = _stat(folder)
    pid = int(folder.name)
    return Process(
        pid=pid,
        name=_name(folder),
        pss=pss(pid) / KIB,
        cpu=ticks(pid) / TICK,
        wakes=wakes(pid),
        started=int(fields[19]) / TICK,
    )


def _stat(folder: Path) -> list[str]:
    """Return the fields of proc(5)'s ``stat`` from the state on."""
    return (folder / "stat").read_text().rpartition(")")[2].split()


def _name(folder: Path) -> str:
    words = (folder / "cmdline").read_text(errors="replace").split("\0")
    program = Path(words[0]).name
    if program.startswith("python") and "-m" in words[:-1]:
        return words[words.index("-m") + 1]
    return program or (folder / "comm").read_text().strip()
