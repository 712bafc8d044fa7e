"""The figures that have goals, of all systems side by side: what a reader wants to see first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from bench.cluster.measure import FIRMWARE, KERNEL, Figures
from bench.cluster.sightings import GONE, RUNNING
from bench.tables import Rows

IDLE_PERIOD = 180.0
"""Seconds that an idle control plane's CPU time is told for."""
Figure = Callable[[Figures], float | None]


def state(kind: str, name: str) -> Figure:
    """Return what tells the median seconds until a kind of machine is in a state."""

    def told(one: Figures) -> float | None:
        found = [start[name] for start in one.starts.get(kind, []) if name in start]
        return median(found) if found else None

    return told


def at_once(part: float) -> Figure:
    """Return what tells after how many seconds so large a part of the machines that were made at once ran."""

    def told(one: Figures) -> float | None:
        found = sorted(seconds for name, seconds in one.burst.items() if name.startswith("machine "))
        return found[max(0, int(len(found) * part) - 1)] if found else None

    return told


def burst_cpu(one: Figures) -> float | None:
    """Return the CPU seconds of all programs while machines start at once."""
    return sum(value for name, value in one.burst.items() if name.startswith("cpu ")) or None


def memory(count: int) -> Figure:
    """Return what tells the MiB a machine beside the hypervisor, with so many running."""
    return lambda one: sum(one.memory.get(str(count), {}).values()) or None


def written(what: str) -> Figure:
    """Return what tells the writes an object."""
    return lambda one: sum(one.writes[what].values()) if what in one.writes else None


def idle(column: int) -> Figure:
    """Return what tells the sum of a column over all idle processes; CPU time is brought to the usual period."""

    def told(one: Figures) -> float | None:
        found = sum(values[column] for values in one.idle.values())
        scale = IDLE_PERIOD / one.idle_seconds if column == 0 and one.idle_seconds else 1.0
        return found * scale or None

    return told


ROWS: tuple[tuple[str, Figure, str, str], ...] = (
    ("s to Running, kernel from an image, median", state(KERNEL, RUNNING), ".2f", "half of KubeVirt's"),
    ("s to Running, firmware alone, median", state(FIRMWARE, RUNNING), ".2f", "half of KubeVirt's"),
    ("s from DELETE until it is gone, firmware alone, median", state(FIRMWARE, GONE), ".2f", ""),
    ("20 with firmware alone at once, p95, s", at_once(0.95), ".1f", "0.8 of KubeVirt's"),
    ("CPU seconds of the whole machine for these 20", burst_cpu, ".1f", "42"),
    ("MiB beside the hypervisor, one machine", memory(1), ".1f", "25"),
    ("MiB beside the hypervisor, each of five", memory(5), ".1f", "15"),
    ("writes until a VirtualMachineInstance runs", written("VirtualMachineInstance, start"), ".1f", "5"),
    ("writes of its deletion", written("VirtualMachineInstance, end"), ".1f", "3"),
    ("writes until a VirtualMachine runs", written("VirtualMachine, start"), ".1f", "8"),
    (f"idle control plane, CPU seconds in {IDLE_PERIOD:.0f} s", idle(0), ".1f", "5"),
    ("idle control plane, MiB of PSS", idle(2), ".0f", "300"),
)
"""What it is called, how it is found, how it is written, and its goal."""


def summary_rows(systems: Sequence[Figures]) -> Rows:
    """Return the table; what was not measured stays empty."""
    rows = [["", *(one.system for one in systems), "goal"]]
    for title, figure, form, goal in ROWS:
        found = [figure(one) for one in systems]
        if any(value is not None for value in found):
            rows.append([title, *("" if value is None else format(value, form) for value in found), goal])
    return rows
