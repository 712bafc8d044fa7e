"""Which CPUs of this node a machine has to itself.

On a kubelet's node they are the kubelet's to give (its CPU manager with the policy ``static``), and what a launcher was
given is what the kernel lets it run on. Without a kubelet this agent gives them: the lowest CPU is everybody's and is
never given; what is given is written down before a guest starts, and is free again once nothing can run in the
launcher's folder. What isn't obvious: that a CPU is one machine's means that the others have to leave it, so
launchers are told which CPUs are left whenever that changes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from pathlib import Path
from typing import Protocol

from polyvisor.agent.errors import AgentError
from polyvisor.agent.files import safepath
from polyvisor.agent.launchers.processes import Launchers
from polyvisor.agent.link.connection import LauncherError, Link
from polyvisor.api import Obj
from polyvisor.kube import WorkQueue
from polyvisor.machine import Vcpus

FIELD = "spec.domain.cpu.dedicatedCpuPlacement"
FEATURES = ("cpu.pinning", "cpu.emulator-pinning")
"""What needs one CPU that can be given, and what needs two."""
STATE = "cpu_manager_state"
NODE = Path("/proc/1/root")
"""The node's own files, by the process that began it."""
EACH = "all"
log = logging.getLogger("polyvisor.cpus")


class CpuSource(Protocol):
    """Where the CPUs of a machine's own come from. ``watched`` are files whose change may change the facts."""

    watched: tuple[str, ...]

    def facts(self) -> frozenset[str]:
        """Return the conditional features that the node has for it."""

    async def given(self, spec: Obj, id_: str, link: Link) -> tuple[int, ...]:
        """Return the CPUs that are the machine's alone, none if it shares; raises AgentError if there are too few."""

    def changed(self) -> None:
        """Take note that a machine has started or is over."""


class PodCpus:
    """Finds what the kubelet gave; ``kubelet`` is its folder on the node."""

    def __init__(self, kubelet: Path | None, node: Path = NODE) -> None:
        self.watched: tuple[str, ...] = (str(node / str(kubelet / STATE).lstrip("/")),) if kubelet else ()

    def facts(self) -> frozenset[str]:
        """Return whether the kubelet gives whole CPUs, by what it wrote down for itself."""
        try:
            policies = [json.loads(Path(file).read_text()).get("policyName") for file in self.watched]
        except (OSError, ValueError, AttributeError):
            policies = []
        return frozenset(FEATURES if "static" in policies else ())

    async def given(self, spec: Obj, id_: str, link: Link) -> tuple[int, ...]:
        """Return the CPUs that the launcher may run on, if they are as many as were asked for."""
        wanted = _wanted(spec)
        if not wanted:
            return ()
        found = tuple(sorted(os.sched_getaffinity(link.pid)))
        if len(found) != wanted:
            raise AgentError(
                f"{FIELD}: {wanted} CPUs are to be the machine's own, and its Pod may run on {len(found)} "
                f"({_text(found)}); this node's kubelet needs cpuManagerPolicy: static"
            )
        return found

    def changed(self) -> None:
        """Do nothing: the kubelet moves others away by itself."""


class HostCpus:
    """Gives CPUs of this machine, which ``cpus`` are (all that this process may use); ``file`` remembers to whom."""

    def __init__(self, file: Path, launchers: Launchers, cpus: frozenset[int] | None = None) -> None:
        self.watched: tuple[str, ...] = ()
        self._file = file
        self._launchers = launchers
        self._all = cpus or frozenset(os.sched_getaffinity(0))
        self._lock = asyncio.Lock()
        self._told: dict[str, frozenset[int]] = {}
        self.queue: WorkQueue[str] = WorkQueue()

    def facts(self) -> frozenset[str]:
        """Return what can be given, beside the CPU that is everybody's."""
        return frozenset(FEATURES[: len(self._all) - 1])

    async def given(self, spec: Obj, id_: str, link: Link) -> tuple[int, ...]:
        """Give CPUs to the machine in a launcher's folder, or the same ones again, and have the others leave them."""
        wanted = _wanted(spec)
        if not wanted:
            return ()
        async with self._lock:
            taken = await asyncio.to_thread(self._taken)
            if len(taken.get(id_, ())) != wanted:
                taken.pop(id_, None)
                taken[id_] = self._chosen(wanted, taken)
                await asyncio.to_thread(safepath.write_atomic, self._file, json.dumps(taken).encode())
            await self._settle(taken)
        return taken[id_]

    def changed(self) -> None:
        """Look soon whether launchers may have other CPUs than before."""
        self.queue.add(EACH)

    async def reconcile(self, _: str) -> None:
        """Have every machine that shares CPUs on those that nobody has to himself."""
        async with self._lock:
            await self._settle(await asyncio.to_thread(self._taken))

    def _chosen(self, wanted: int, taken: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
        given = {cpu for cpus in taken.values() for cpu in cpus}
        free = sorted(self._all - given)[1 if min(self._all) not in given else 0 :]
        if len(free) < wanted:
            raise AgentError(
                f"{FIELD}: {wanted} CPUs are to be the machine's own, and {len(free)} of this host's {len(self._all)} "
                f"can be given: {len(given)} are other machines' own already, and one stays everybody's"
            )
        return tuple(free[:wanted])

    def _taken(self) -> dict[str, tuple[int, ...]]:
        """Return what is given to machines that may still run."""
        try:
            kept = json.loads(self._file.read_text())
        except FileNotFoundError:
            return {}
        return {id_: tuple(cpus) for id_, cpus in kept.items() if self._launchers.exists(id_)}

    async def _settle(self, taken: dict[str, tuple[int, ...]]) -> None:
        left = self._all - {cpu for cpus in taken.values() for cpu in cpus}
        if not taken and not self._file.exists():
            return  # nobody was ever sent away
        links = {id_: link for id_ in self._launchers.ids() if id_ not in taken and (link := self._launchers.get(id_))}
        self._told = {id_: cpus for id_, cpus in self._told.items() if id_ in links}
        for id_, link in links.items():
            if not link.active or self._told.get(id_) == left:
                continue
            try:
                await link.request("confine", cpus=sorted(left))
                self._told[id_] = left
            except LauncherError as error:
                log.warning("launcher %s stays on CPUs that are another machine's own: %s", id_, error)


def _wanted(spec: Obj) -> int:
    return Vcpus.read(spec["domain"]).dedicated


def _text(cpus: tuple[int, ...]) -> str:
    return ",".join(map(str, cpus)) if len(cpus) <= 8 else f"{cpus[0]} to {cpus[-1]}"
