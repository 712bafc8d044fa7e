"""What the standalone process takes when nothing happens: memory, and CPU time over some seconds."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from bench.memory import KIB, pss


@dataclass(frozen=True)
class Idle:
    """MiB and percent of one CPU, with ``machines`` running."""

    machines: int
    rss: float
    pss: float
    cpu: float


def measure(pid: int, machines: int, seconds: float) -> Idle:
    """Watch a process for ``seconds``."""
    before, begin = ticks(pid), time.monotonic()
    time.sleep(seconds)  # idleness has no event
    cpu = (ticks(pid) - before) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - begin) * 100
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    rss = next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
    return Idle(machines, rss / KIB, pss(pid) / KIB, cpu)


def ticks(pid: int) -> int:
    """Return the CPU time that a process has taken, in clock ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
