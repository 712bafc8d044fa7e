"""The figures of one system, or of two side by side, as tables and as a section of docs/performance.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from bench.cluster.measure import FIRMWARE, KERNEL, QEMU, Figures
from bench.cluster.sightings import GONE, POD_GONE, POD_STEPS, RUNNING
from bench.cluster.summary import IDLE_PERIOD, summary_rows
from bench.tables import Rows, facts, markdown, print_tables, spread

STATES = ("Scheduling", *POD_STEPS, "Scheduled", QEMU, RUNNING, GONE, POD_GONE)
TITLES = {KERNEL: "kernel from an image", FIRMWARE: "firmware alone"}

SECTION = """## In a cluster

By `python -m bench cluster`, {days}, on {facts}. A real Kubernetes of one node (kube-apiserver, etcd,
controller-manager, scheduler, kubelet, kube-proxy, containerd and runc on this machine), Polyvisor installed by
`polyvisor install`, real launcher Pods, guests under emulation; nothing is simulated. {beside}

{summary}
### From POST to Running

Seconds after a VirtualMachineInstance's POST at which a watch first showed each state; after its DELETE for the last
two. Median (least to most) of {count} starts one by one, both kinds in turns. Pods' states come from the kubelet, which
reports them late; the hypervisor's process is seen in /proc.

{starts}
The floors, in turns with the starts: a Pod of one container that sleeps, and `virsh create` of a machine with firmware
alone by a daemon that runs already.

{floors}
### At once

Machines with firmware alone, all POSTs at the same time.

{burst}
CPU seconds of the whole machine from the first POST until the last machine ran, by program:

{cpu}
### Memory a machine, beside the hypervisor

MiB of proportional set size in the machine's Pod a machine, with so many running at the same time.

{memory}
### Writes

By the API server's audit log: what the system's own service accounts write an object (Events, Leases and reviews
aside; kubelet, scheduler and Kubernetes' controllers are not counted).

{writes}
### The control plane, idle

CPU seconds are brought to {period:.0f} s.

{idle}"""


def start_rows(systems: Sequence[Figures]) -> Rows:
    """Return the table of starts."""
    columns = [(one, kind) for kind in TITLES for one in systems]
    rows = [["state", *(f"{one.system}, {TITLES[kind]}" for one, kind in columns)]]
    for state in STATES:
        found = [[start[state] for start in one.starts.get(kind, []) if state in start] for one, kind in columns]
        if any(found):
            rows.append([state, *(spread(values) if values else "" for values in found)])
    return rows


def floor_rows(systems: Sequence[Figures]) -> Rows:
    """Return the table of floors, and of what a start takes above both of them together."""
    rows = [["", *(one.system for one in systems)]]
    for name, title in (("Pod", "a bare Pod"), ("virsh", "a bare virsh create")):
        found = [one.floors.get(name, []) for one in systems]
        if any(found):
            rows.append([title, *(spread(values) if values else "" for values in found)])
    for kind, title in TITLES.items():
        above = [_above(one, kind) for one in systems]
        if any(above):
            rows.append([f"{title}: above both (goal: at most 1.0)", *above])
    return rows


def _above(one: Figures, kind: str) -> str:
    starts = [start[RUNNING] for start in one.starts.get(kind, [])]
    parts = [starts, *(one.floors.get(name, []) for name in ("Pod", "virsh"))]
    if not all(parts):
        return ""
    whole, pod, virsh = map(median, parts)
    return f"{whole - pod - virsh:.2f}"


def burst_rows(systems: Sequence[Figures]) -> Rows:
    """Return the table of machines that start at once."""
    rows = [["", *(one.system for one in systems)]]
    times = [[value for name, value in one.burst.items() if name.startswith("machine ")] for one in systems]

    def row(title: str, of: Callable[[list[float]], str]) -> None:
        rows.append([title, *(of(values) if values else "" for values in times)])

    row("machines", lambda values: str(len(values)))
    row("half of them run after, s", lambda values: f"{median(values):.1f}")
    row("95 % of them run after, s", lambda values: f"{values[max(0, int(len(values) * 0.95) - 1)]:.1f}")
    row("all run after, s", lambda values: f"{values[-1]:.1f}")
    rows.append(["all deleted after, s", *(f"{one.burst.get('deleted', 0):.1f}" for one in systems)])
    return rows


def cpu_rows(systems: Sequence[Figures]) -> Rows:
    """Return the table of CPU time in a burst, the most first."""
    found = [{n.removeprefix("cpu "): v for n, v in one.burst.items() if n.startswith("cpu ")} for one in systems]
    return _by_name("program", systems, found, ".1f")


def memory_rows(systems: Sequence[Figures]) -> Rows:
    """Return the table of memory."""
    counts = sorted({int(count) for one in systems for count in one.memory})
    columns = [(one, count) for count in counts for one in systems]
    found = [one.memory.get(str(count), {}) for one, count in columns]
    rows = _by_name("program", systems, found, ".1f")
    return [["program", *(f"{one.system}, {count}" for one, count in columns)], *rows[1:]]


def write_rows(systems: Sequence[Figures]) -> Rows:
    """Return the table of writes."""
    rows = [["object", "who and what", *(one.system for one in systems)]]
    for what in dict.fromkeys(what for one in systems for what in one.writes):
        found = [one.writes.get(what, {}) for one in systems]
        rows += [[what, *row] for row in _by_name("", systems, found, ".1f")[1:]]
    return rows


def idle_rows(systems: Sequence[Figures]) -> Rows:
    """Return the table of the idle control plane."""
    rows = [["system", "process", "CPU seconds", "wake-ups a second", "PSS, MiB"]]
    for one in systems:
        times = IDLE_PERIOD / one.idle_seconds if one.idle_seconds else 0.0
        for name, (cpu, wakes, pss) in sorted(one.idle.items()):
            rows.append([one.system, name.rpartition(" ")[0], f"{cpu * times:.2f}", f"{wakes:.1f}", f"{pss:.0f}"])
        sums = [sum(values) for values in zip(*one.idle.values(), strict=True)]
        if sums:
            rows.append([one.system, "together", f"{sums[0] * times:.1f}", f"{sums[1]:.1f}", f"{sums[2]:.0f}"])
    return rows


def _by_name(title: str, systems: Sequence[Figures], found: Sequence[dict[str, float]], form: str) -> Rows:
    names = sorted({name for one in found for name in one}, key=lambda name: -max(one.get(name, 0.0) for one in found))
    rows = [[title, *(one.system for one in systems)]]
    rows += [[name, *(format(one.get(name, 0.0), form) for one in found)] for name in names]
    return [*rows, ["together", *(format(sum(one.values()), form) for one in found)]]


def _days(figures: Figures) -> str:
    days = sorted({moment.partition(" ")[0] for moment in figures.measured.values()})
    return "on " + " to ".join(dict.fromkeys((days[0], days[-1]))) if days else "at an unknown time"


def show(systems: Sequence[Figures]) -> None:
    """Print all tables."""
    makers = (summary_rows, start_rows, floor_rows, burst_rows, cpu_rows, memory_rows, write_rows, idle_rows)
    print_tables(*(make(systems) for make in makers))


def section(systems: Sequence[Figures], note: str) -> str:
    """Return the section; ``note`` says what a reader should know, such as what another system's figures are."""
    return SECTION.format(
        days=_days(systems[0]),
        facts=facts(),
        beside=note,
        summary=markdown(summary_rows(systems)),
        count=len(systems[0].starts.get(KERNEL, [])),
        starts=markdown(start_rows(systems)),
        floors=markdown(floor_rows(systems)),
        burst=markdown(burst_rows(systems)),
        cpu=markdown(cpu_rows(systems)),
        memory=markdown(memory_rows(systems)),
        writes=markdown(write_rows(systems)),
        period=IDLE_PERIOD,
        idle=markdown(idle_rows(systems)),
    )
