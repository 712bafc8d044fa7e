"""What the control plane's processes take in a cluster when nothing happens: CPU time, wake-ups, memory.

etcd and kube-apiserver are real, and so are all of Polyvisor's processes with their service accounts' rights: two
replicas each of virt-api, virt-controller and virt-operator, and one virt-handler. No kubelet runs them; its probes are
played, at the chart's intervals.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.idle import ticks
from bench.memory import KIB, pss
from polyvisor.api.resources import NODES
from tests.e2e.cluster import cluster, free_port
from tests.e2e.installation import Installation, eventually

NODE = "n1"
SETTLE_SECONDS = 20.0
PERIOD = 180.0
"""Seconds that CPU time is told for."""
PROBES = {"readyz": 10, "livez": 20}
"""Path and seconds between two probes, as in the chart."""


@dataclass(frozen=True)
class Process:
    """One process over the time that was watched."""

    name: str
    cpu: float
    """Seconds."""
    wakes: float
    """Times a second that it went to sleep and was woken up."""
    pss: float
    """MiB."""


@dataclass(frozen=True)
class Components:
    """All of them."""

    seconds: float
    processes: list[Process]

    @property
    def cpu(self) -> float:
        """CPU seconds of all, brought to the usual time."""
        return sum(one.cpu for one in self.processes) * PERIOD / self.seconds

    @property
    def pss(self) -> float:
        """MiB of all."""
        return sum(one.pss for one in self.processes)


def start(found: Installation) -> None:
    """Start every process, and wait until all are ready."""
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": {"kubernetes.io/os": "linux"}}}
    found.create(NODES, node)
    found.install()
    folder = found.cluster.folder
    (folder / "pods").mkdir()
    for number in (1, 2):
        found.start(f"operator{number}", "controllers.operator", "kubevirt-operator", f"--identity=operator{number}")
    for number in (1, 2):
        found.start(f"controller{number}", "controllers", "kubevirt-controller", f"--identity=controller{number}")
        port = found.port if number == 1 else free_port()
        found.start(f"api{number}", "server", "kubevirt-apiserver", f"--port={port}")
    where = (f"--state-dir={folder}/state", f"--pods-dir={folder}/pods", f"--node-name={NODE}", "--bind=127.0.0.1")
    plugins = f"--device-plugins-dir={folder}/plugins"
    (folder / "plugins").mkdir()
    found.start("handler", "agent", "kubevirt-handler", *where, plugins, f"--port={free_port()}", node=NODE)
    for name in found.running:
        eventually(lambda name=name: found.ready(name), 90, why=lambda name=name: found.cluster.tail(name))

    def labelled() -> bool:
        return "hypervisor.kubevirt.io/" in found.cluster.kubectl("get", "node", NODE, "-o", "jsonpath={.metadata}")

    eventually(labelled, 180, why=lambda: found.cluster.tail("handler"))


def measure(seconds: float) -> Components:
    """Watch the idle control plane for so long."""
    with cluster() as control_plane, ExitStack() as stack:
        found = Installation(control_plane, stack)
        start(found)
        time.sleep(SETTLE_SECONDS)  # idleness has no event
        pids = {name: process.pid for name, process in found.running.items()}
        before = {name: (ticks(pid), wakes(pid)) for name, pid in pids.items()}
        begin = time.monotonic()
        _probe(found, begin + seconds)
        took = time.monotonic() - begin
        tick = os.sysconf("SC_CLK_TCK")
        return Components(
            took,
            [
                Process(
                    name,
                    (ticks(pid) - before[name][0]) / tick,
                    (wakes(pid) - before[name][1]) / took,
                    pss(pid) / KIB,
                )
                for name, pid in pids.items()
            ],
        )


def _probe(found: Installation, end: float) -> None:
    """Ask each process what a kubelet asks it, over a connection of its own as a kubelet does."""
    second = 0
    while time.monotonic() < end:
        for path, every in PROBES.items():
            if second % every == 0:
                for name in found.health:
                    found.ask(name, f"/{path}").raise_for_status()
        second += 1
        time.sleep(1)


def rows(found: Components) -> list[list[str]]:
    """Return the table."""
    table = [["process", f"CPU seconds in {PERIOD:.0f} s", "wake-ups a second", "PSS, MiB"]]
    for one in sorted(found.processes, key=lambda one: one.name):
        cpu = one.cpu * PERIOD / found.seconds
        table.append([one.name, f"{cpu:.2f}", f"{one.wakes:.1f}", f"{one.pss:.0f}"])
    return [*table, ["together", f"{found.cpu:.1f} (goal: under 5)", "", f"{found.pss:.0f} (goal: under 300)"]]


def wakes(pid: int) -> int:
    """Return how often a process' threads were woken up after they had gone to sleep by themselves."""
    found = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        count = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text(), re.MULTILINE)
        found += int(count[1]) if count else 0
    return found
