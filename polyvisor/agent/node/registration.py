"""This machine as a Node: made, labelled with what works, kept alive by Lease and heartbeat.

Everything is written by merge patches of what we own, so labels and annotations that others put on the Node stay.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import platform
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from polyvisor import __version__
from polyvisor.agent.files.watching import LOOK_SECONDS, changes
from polyvisor.agent.images.oci import host_architecture
from polyvisor.agent.node import huge_pages, probing
from polyvisor.agent.node.leases import renew_lease
from polyvisor.agent.node.prober import Prober
from polyvisor.api import Obj, names, node_names
from polyvisor.api.quantity import whole
from polyvisor.api.reading import labels_of
from polyvisor.api.resources import NODES
from polyvisor.api.times import stamp
from polyvisor.drivers.base import Driver, ProbeResult
from polyvisor.kube import ApiError, KubeClient
from polyvisor.kube.backoff import Backoff

RENEW_SECONDS = 10.0
HEARTBEAT_SECONDS = 60.0
PROBE_SECONDS = 600.0
PROBE_AGAIN = Backoff(5.0, PROBE_SECONDS)
"""When to probe again where a time limit passed, or where something has changed."""
SETTLE_SECONDS = 120.0
"""How long after a change more may follow: a package is there before those that it needs are."""
MAX_PODS = 250
log = logging.getLogger("polyvisor.node")


def now() -> str:
    """Return the time as Kubernetes writes it."""
    return stamp()


def _line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _os_image() -> str:
    for line in _line("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return platform.system()


def _address() -> str:
    """Return the address that this host reaches others from; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


DISPENSABLE = ("tun", "vhost-net")
"""Devices that launcher Pods of a cluster ask for, and that launchers on this machine do without."""


def capacity(folder: Path) -> dict[str, str]:
    """Return what this machine has to give, with the room of the file system that ``folder`` is on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
    there = [name for name, path in node_names.DEVICES.items() if name in DISPENSABLE or Path(path).exists()]
    devices = {f"{node_names.DEVICE_PREFIX}{name}": "1k" for name in there}
    cpus = len(os.sched_getaffinity(0))
    room = os.statvfs(folder)
    storage = room.f_blocks * room.f_frsize // 1024
    pages = {node_names.huge_pages(size): f"{size // 1024 * count}Ki" for size, count in huge_pages.reserved().items()}
    return {
        "cpu": str(cpus),
        "memory": f"{memory}Ki",
        "ephemeral-storage": f"{storage}Ki",
        "pods": str(MAX_PODS),
        **pages,
        **devices,
    }


def allocatable(has: Mapping[str, str]) -> dict[str, str]:
    """Return what machines can have of a capacity: memory in huge pages cannot be had as ordinary memory as well."""
    huge = sum(whole(amount) for name, amount in has.items() if name.startswith(node_names.HUGE_PAGES_PREFIX))
    return {**has, "memory": f"{(whole(has['memory']) - huge) // 1024}Ki"}


class NodeKeeper:
    """Writes the Node object of this machine, as long as :meth:`run` runs."""

    advises = True
    """Whether the agent runs on the machine itself, so that a user can install what a driver lacks."""

    def __init__(
        self,
        client: KubeClient,
        name: str,
        drivers: Iterable[Driver],
        scratch: Path,
        more: Callable[[], frozenset[str]] = frozenset,
        watched: Iterable[str] = (),
    ) -> None:
        self._client = client
        self._name = name
        self._drivers = list(drivers)
        self._scratch = scratch
        self._probing = asyncio.Lock()
        self._more = more  # features that the node has, whatever the drivers find
        self._watched = tuple(watched)
        self._ready_since = now()
        self._said: tuple[bool, str, str] | None = None
        self._said_since = self._ready_since
        self.address = _address()
        self.prober = Prober(self._drivers, scratch, more)
        self._soon = asyncio.Event()
        self._unsettled = 0.0
        self.probed = asyncio.Event()
        """Set when the first probe's outcome stands in the Node."""
        self.changed: Callable[[], None] = lambda: None
        """Called when a probe found something else than the one before."""

    async def run(self) -> None:
        """Keep Node and Lease; probe again from time to time."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repeat(self.renew_lease, RENEW_SECONDS), name="node-lease")
            group.create_task(self._repeat(self.heartbeat, HEARTBEAT_SECONDS), name="node-heartbeat")
            self._start_probing(group)

    def _start_probing(self, group: asyncio.TaskGroup) -> None:
        """Probe from time to time, when something changes, and show answers that come late."""
        group.create_task(self._keep_probing(), name="node-probing")
        group.create_task(self._repeat(self._publish_late, 1.0), name="node-late-probes")
        group.create_task(self.watch(), name="node-watching")

    @property
    def results(self) -> dict[str, ProbeResult]:
        """What the last probes found."""
        return self.prober.results

    async def _keep_probing(self) -> None:
        tries = 0
        while True:
            pause = PROBE_SECONDS
            self._soon.clear()
            try:
                await self.probe()
            except ApiError as error:
                pause = 2.0
                log.warning("node %s: %s; again in %.0f s", self._name, error, pause)
            else:
                tries = tries + 1 if self._in_doubt() else 0
                if tries:
                    pause = PROBE_AGAIN.delay(tries - 1)
                    log.info("node %s: trying the drivers again in %.0f s", self._name, pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._soon.wait()
                    tries = 0

    def _in_doubt(self) -> bool:
        """Whether a driver that does not work may soon: a time limit passed, or something is being installed."""
        fails = any(not result.available for result in self.results.values())
        return self.prober.again or (fails and time.monotonic() < self._unsettled)

    async def _publish_late(self) -> None:
        await self.prober.late.wait()
        self.changed()
        await self.publish()
        self.prober.late.clear()
        if self.prober.again:
            self._soon.set()

    async def watch(self, seconds: float = LOOK_SECONDS) -> None:
        """Probe again at once when something comes or goes that a driver needs."""
        paths = sorted({*self._watched, *(path for driver in self._drivers for path in driver.watched)})
        async for _ in changes(paths, seconds=seconds):
            log.info("node %s: one of %s has changed; looking what works", self._name, ", ".join(paths))
            self._unsettled = time.monotonic() + SETTLE_SECONDS
            self._soon.set()

    async def _repeat(self, step: Callable[[], Awaitable[None]], seconds: float) -> None:
        while True:
            pause = seconds
            try:
                await step()
            except ApiError as error:
                pause = min(seconds, 2.0)
                log.warning("node %s: %s; again in %.0f s", self._name, error, pause)
            await asyncio.sleep(pause)

    async def probe(self) -> None:
        """Find out what works and write it down."""
        async with self._probing:
            if await self.prober.ask():
                self.changed()
            await self.publish()
            self.probed.set()

    def report(self) -> list[dict[str, Any]]:
        """Return the report on all drivers, as the last probes left it."""
        return probing.report_of(self._drivers, self.results, advise=self.advises)

    async def publish(self) -> None:
        """Bring the Node's labels and report in line with the last probe."""
        node = await self._node()
        changes = probing.label_changes(node, probing.labels_of(self.results))
        whole_cpus = str("cpu.pinning" in self._more()).lower()
        if labels_of(node).get(node_names.CPU_MANAGER_LABEL) != whole_cpus:
            changes[node_names.CPU_MANAGER_LABEL] = whole_cpus
        report = json.dumps(self.report(), separators=(",", ":"))
        annotations = node["metadata"].get("annotations") or {}
        if changes or annotations.get(node_names.DRIVERS_ANNOTATION) != report:
            body = {"metadata": {"labels": changes, "annotations": {node_names.DRIVERS_ANNOTATION: report}}}
            await self._client.patch(NODES, self._name, body)
        await self._tell()

    async def _tell(self) -> None:
        """Write the condition that says what works, if it is news."""
        said = probing.condition_of(self.results)
        if said != self._said:
            self._said_since = now() if self._said is None or said[0] != self._said[0] else self._said_since
            body = {"status": {"conditions": [self._drivers_condition(said)]}}
            await self._client.patch(NODES, self._name, body, patch_type="strategic", subresource="status")
            self._said = said

    def _drivers_condition(self, said: tuple[bool, str, str]) -> Obj:
        works, reason, message = said
        return {
            "type": node_names.DRIVERS_CONDITION,
            "status": str(works),
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": now(),
            "lastTransitionTime": self._said_since,
        }

    async def heartbeat(self) -> None:
        """Say that the node is alive and what it has."""
        await self._node()
        await self._client.patch(
            NODES,
            self._name,
            {
                "metadata": {
                    "annotations": {names.HEARTBEAT_ANNOTATION: now()},
                    "labels": {names.NODE_SCHEDULABLE_LABEL: "true"},
                }
            },
        )
        await self._client.patch(NODES, self._name, {"status": self._status(ready=True)}, subresource="status")

    async def stopped(self) -> None:
        """Say that nobody looks after this node any more."""
        body = {"metadata": {"labels": {names.NODE_SCHEDULABLE_LABEL: "false"}}}
        await self._client.patch(NODES, self._name, body)
        await self._client.patch(NODES, self._name, {"status": self._status(ready=False)}, subresource="status")

    async def _node(self) -> Obj:
        try:
            return await self._client.get(NODES, self._name)
        except ApiError as error:
            if not error.not_found:
                raise
        labels = {
            names.HOSTNAME_LABEL: self._name,
            names.ARCH_LABEL: host_architecture(),
            names.OS_LABEL: "linux",
            names.NODE_SCHEDULABLE_LABEL: "true",
        }
        metadata = {"name": self._name, "labels": labels}
        try:
            return await self._client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": metadata})
        except ApiError as error:
            if not error.already_exists:
                raise
            return await self._client.get(NODES, self._name)

    def _status(self, *, ready: bool) -> Obj:
        has = capacity(self._scratch)
        condition = {
            "type": "Ready",
            "status": "True" if ready else "False",
            "reason": "AgentReady" if ready else "AgentStopped",
            "message": "the agent looks after this node" if ready else "the agent was stopped",
            "lastHeartbeatTime": now(),
            "lastTransitionTime": self._ready_since if ready else now(),
        }
        conditions = [condition] if self._said is None else [condition, self._drivers_condition(self._said)]
        return {
            "capacity": has,
            "allocatable": allocatable(has),
            "conditions": conditions,
            "addresses": [
                {"type": "InternalIP", "address": self.address},
                {"type": "Hostname", "address": socket.gethostname()},
            ],
            "nodeInfo": {
                "architecture": host_architecture(),
                "bootID": _line("/proc/sys/kernel/random/boot_id"),
                "containerRuntimeVersion": f"polyvisor://{__version__}",
                "kernelVersion": platform.release(),
                "kubeProxyVersion": "",
                "kubeletVersion": f"polyvisor-{__version__}",
                "machineID": _line("/etc/machine-id"),
                "operatingSystem": "linux",
                "osImage": _os_image(),
                "systemUUID": _line("/sys/class/dmi/id/product_uuid"),
            },
        }

    async def renew_lease(self) -> None:
        """Renew the Lease by which others tell that this node is alive."""
        await renew_lease(self._client, self._name, self._node)
