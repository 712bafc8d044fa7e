"""When each machine and its Pod was first seen in each state, by one watch of each kind for all of a run."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from polyvisor.api.resources import PODS, VMIS
from polyvisor.kube import Informer, KubeClient

Obj = dict[str, Any]
RUNNING, FAILED, GONE, POD_GONE = "Running", "Failed", "gone", "Pod gone"
POD_STEPS = ("Pod made", "Pod bound", "Pod has an address", "launcher's container runs")


def now() -> float:
    """Return seconds since the machine started: the clock that processes' start times are told by."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Sightings:
    """By a machine's name: state -> when it was first seen."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, float]] = defaultdict(dict)
        self.pods: dict[str, str] = {}
        """A machine's name -> the uid of its Pod."""
        self._changed = asyncio.Event()

    async def until(self, name: str, state: str, seconds: float = 400) -> float:
        """Wait until a machine was seen in a state; return when."""
        async with asyncio.timeout(seconds):
            while state not in self.seen[name]:
                if FAILED in self.seen[name] and state == RUNNING:
                    raise SystemExit(f"{name} failed: {self.seen[name]}")
                self._changed.clear()
                await self._changed.wait()
        return self.seen[name][state]

    def vmi_changed(self, old: Obj | None, new: Obj | None) -> None:
        """Take a VirtualMachineInstance's change."""
        vmi = new or old or {}
        phase = str((vmi.get("status") or {}).get("phase"))
        self._note(vmi["metadata"]["name"], GONE if new is None else phase)

    def pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        """Take a Pod's change. A Pod of nobody counts as a machine of its own name."""
        pod = new or old or {}
        owners = [one["name"] for one in pod["metadata"].get("ownerReferences") or []]
        name = (owners or [pod["metadata"]["name"]])[0]
        if new is None:
            self._note(name, POD_GONE)
            return
        self.pods[name] = pod["metadata"]["uid"]
        status = pod.get("status") or {}
        running = [one["name"] for one in status.get("containerStatuses") or [] if "running" in one.get("state", {})]
        up = "compute" in running or (not owners and bool(running))
        reached = (True, pod["spec"].get("nodeName"), status.get("podIP"), up)
        self._note(name, *(step for step, seen in zip(POD_STEPS, reached, strict=True) if seen))

    def _note(self, name: str, *states: str) -> None:
        at = now()
        for state in states:
            self.seen[name].setdefault(state, at)
        self._changed.set()


@asynccontextmanager
async def watching(client: KubeClient, namespace: str) -> AsyncIterator[Sightings]:
    """Watch a namespace's machines and Pods."""
    found = Sightings()
    vmis, pods = Informer(client, VMIS, namespace), Informer(client, PODS, namespace)
    vmis.on_change(found.vmi_changed)
    pods.on_change(found.pod_changed)
    async with vmis, pods:
        yield found
