"""The measurements, one after another on a machine that does nothing else."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.cluster import audit
from bench.cluster.floors import bare_machines, bare_pod
from bench.cluster.processes import cpu_by_program, of_pod
from bench.cluster.sightings import GONE, POD_GONE, RUNNING, Sightings, now, watching
from polyvisor.api.names import APP_LABEL, HANDLER_APP
from polyvisor.api.resources import NAMESPACES, PODS, VMIS, VMS, Resource
from polyvisor.kube import ApiError, KubeClient

Obj = dict[str, Any]
SPACE = "bench"
KERNEL, FIRMWARE = "kernel", "firmware"
KINDS = (KERNEL, FIRMWARE)
MEMORY_COUNTS = (1, 5, 20)
SETTLE_SECONDS = 20.0
PAUSE_SECONDS = 3.0
"""Between a machine's start and its end, so that the end does not disturb what belongs to the start."""
CPU_REQUEST = "25m"
"""Of each machine, so that a node of two CPUs has room for twenty; by default it would be 100m."""
QEMU = "hypervisor's process"
STEPS = ("idle", "starts", "writes", "burst", "memory")
"""In the order in which they are taken."""


@dataclass
class Figures:
    """What was measured of one system; all of it can be written as JSON and read again."""

    system: str
    starts: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    """Kind of machine -> for each start, state -> seconds after the POST (``gone``, ``Pod gone``: after the DELETE)."""
    memory: dict[str, dict[str, float]] = field(default_factory=dict)
    """Machines at once -> program -> MiB of PSS a machine, beside the hypervisor."""
    writes: dict[str, dict[str, float]] = field(default_factory=dict)
    """Kind of object and what is done -> who and what -> number an object."""
    burst: dict[str, float] = field(default_factory=dict)
    """``machine N`` -> seconds; ``cpu PROGRAM`` -> seconds; ``deleted`` -> seconds."""
    idle: dict[str, list[float]] = field(default_factory=dict)
    """Pod and program -> CPU seconds, wake-ups a second, MiB of PSS."""
    idle_seconds: float = 0.0
    floors: dict[str, list[float]] = field(default_factory=dict)
    """``Pod`` and ``virsh`` -> seconds of each."""
    measured: dict[str, str] = field(default_factory=dict)
    """Step -> when it was measured last, in UTC."""

    def write(self, path: Path) -> None:
        """Write all of it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> Figures:
        """Read what :meth:`write` wrote."""
        return cls(**json.loads(path.read_text()))


class Kept:
    """Figures in a file, which is written after each step: one that fails costs no other, and steps can be repeated."""

    def __init__(self, path: Path, system: str) -> None:
        self._path = path
        self.figures = Figures.read(path) if path.exists() else Figures(system)

    def done(self, step: str) -> None:
        """Keep what a step has measured."""
        self.figures.measured[step] = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self.figures.write(self._path)


class Bench:
    """One system under measurement."""

    def __init__(self, client: KubeClient, seen: Sightings, namespace: str, figures: Figures) -> None:
        self._client = client
        self._seen = seen
        self._namespace = namespace
        self.figures = figures

    async def starts(self, count: int) -> None:
        """Start machines one by one, both kinds and the two floors in turns, so that other work here hits all of them.

        The first of each, which warms caches, does not count.
        """
        agents = f"{APP_LABEL}={HANDLER_APP}"  # whose image has programs, unlike that of other components
        (pod, *_) = await self._client.list(PODS, self._namespace, label_selector=agents)
        image = str(pod["spec"]["containers"][0]["image"])
        self.figures.starts = {kind: [] for kind in KINDS}
        self.figures.floors = {"Pod": [], "virsh": []}
        with bare_machines() as create:
            for number in range(count + 1):
                found = {kind: await self._whole(f"{kind}-{number}", kind) for kind in KINDS}
                bare = await bare_pod(self._client, self._seen, SPACE, f"bare-{number}", image)
                virsh = await asyncio.to_thread(create)
                if number:
                    self.figures.floors["Pod"].append(bare)
                    self.figures.floors["virsh"].append(virsh)
                    for kind, steps in found.items():
                        self.figures.starts[kind].append(steps)

    async def _whole(self, name: str, kind: str) -> dict[str, float]:
        return await self._start(name, kind) | await self._end(name)

    async def _start(self, name: str, kind: str) -> dict[str, float]:
        begin = now()
        await self._client.create(VMIS, instance(name, kind))
        await self._seen.until(name, RUNNING)
        steps = {state: at - begin for state, at in self._seen.seen[name].items() if state != "None"}
        hypervisors = [one.started - begin for one in of_pod(self._seen.pods[name]) if one.is_hypervisor]
        return steps | ({QEMU: min(hypervisors)} if hypervisors else {})

    async def _end(self, *names: str, resource: Resource = VMIS) -> dict[str, float]:
        await asyncio.sleep(PAUSE_SECONDS)
        begin = now()
        for name in names:
            await self._client.delete(resource, name, SPACE)
        ends = [[await self._seen.until(name, state) - begin for name in names] for state in (GONE, POD_GONE)]
        await asyncio.sleep(PAUSE_SECONDS)
        return {GONE: max(ends[0]), POD_GONE: max(ends[1])}

    async def memory(self, counts: Sequence[int]) -> None:
        """Weigh the processes of machines that run at the same time."""
        for count in counts:
            names = [f"m{count}-{number}" for number in range(count)]
            for name in names:
                await self._start(name, KERNEL)
            await asyncio.sleep(SETTLE_SECONDS)  # rest has no event
            found: dict[str, float] = {}
            for name in names:
                for one in of_pod(self._seen.pods[name]):
                    if not one.is_hypervisor:
                        found[one.name] = found.get(one.name, 0.0) + one.pss / count
            self.figures.memory[str(count)] = found
            await self._end(*names)

    async def writes(self, count: int, log: Path) -> None:
        """Count what is written while machines start and while they end, by the API server's audit log."""
        for resource, make in ((VMIS, instance), (VMS, machine)):
            names = [f"w-{resource.kind.lower()[:20]}-{number}" for number in range(count)]
            at = self._count("", log, 0, count)
            for name in names:
                await self._client.create(resource, make(name, KERNEL))
                await self._seen.until(name, RUNNING)
            await asyncio.sleep(SETTLE_SECONDS)
            at = self._count(f"{resource.kind}, start", log, at, count)
            await self._end(*names, resource=resource)
            self._count(f"{resource.kind}, end", log, at, count)

    def _count(self, what: str, log: Path, at: int, count: int) -> int:
        with log.open() as file:
            file.seek(at)
            found = audit.writes(file, self._namespace)
            end = file.tell()
        if what:
            self.figures.writes[what] = {f"{user}: {write}": n / count for (user, write), n in found.items()}
        return end

    async def burst(self, count: int) -> None:
        """Start machines all at once."""
        names = [f"b{number}" for number in range(count)]
        before = cpu_by_program()
        begun: dict[str, float] = {}

        async def post(name: str) -> None:
            begun[name] = now()
            await self._client.create(VMIS, instance(name, FIRMWARE))

        await asyncio.gather(*map(post, names))
        ran = {name: await self._seen.until(name, RUNNING) - begun[name] for name in names}
        after = cpu_by_program()
        self.figures.burst = {f"machine {number}": seconds for number, seconds in enumerate(sorted(ran.values()), 1)}
        grown = {f"cpu {name}": after[name] - before[name] for name in after if after[name] - before[name] > 0.05}
        self.figures.burst |= grown
        ended = await self._end(*names)
        self.figures.burst["deleted"] = ended[GONE]

    async def idle(self, seconds: float) -> None:
        """Watch the system's own Pods while nothing happens."""
        await asyncio.sleep(SETTLE_SECONDS)
        pods = await self._client.list(PODS, self._namespace)
        before = {one.pid: one for pod in pods for one in of_pod(pod["metadata"]["uid"])}
        begin = now()
        await asyncio.sleep(seconds)
        took = self.figures.idle_seconds = now() - begin
        self.figures.idle = {}
        for pod in pods:
            for one in of_pod(pod["metadata"]["uid"]):
                if (old := before.get(one.pid)) is not None:
                    row = [one.cpu - old.cpu, (one.wakes - old.wakes) / took, one.pss]
                    self.figures.idle[f"{pod['metadata']['name']} {one.name} {one.pid}"] = row


def instance(name: str, kind: str) -> Obj:
    """Return a VirtualMachineInstance: a kernel and an initial RAM disk from an image, or firmware without a disk."""
    domain: Obj = {
        "cpu": {"cores": 1},
        "memory": {"guest": "128Mi" if kind == KERNEL else "64Mi"},
        "resources": {"requests": {"cpu": CPU_REQUEST}},
        "devices": {"interfaces": [{"name": "default", "masquerade": {}}]},
    }
    if kind == KERNEL:
        image = {"image": "localhost/polyvisor/demo-kernel:1", "kernelPath": "/boot/vmlinuz"}
        boot = {"kernelArgs": "console=ttyS0 quiet", "container": image | {"initrdPath": "/boot/initrd.img"}}
        domain["firmware"] = {"kernelBoot": boot}
    spec = {"terminationGracePeriodSeconds": 0, "domain": domain, "networks": [{"name": "default", "pod": {}}]}
    metadata = {"name": name, "namespace": SPACE}
    return {"apiVersion": "kubevirt.io/v1", "kind": VMIS.kind, "metadata": metadata, "spec": spec}


def machine(name: str, kind: str) -> Obj:
    """Return a VirtualMachine that is to run."""
    spec = {"runStrategy": "Always", "template": {"metadata": {}, "spec": instance(name, kind)["spec"]}}
    return {**instance(name, kind), "kind": VMS.kind, "spec": spec}


async def measure(
    client: KubeClient, kept: Kept, namespace: str, steps: Sequence[str], given: Obj, log: Path | None
) -> None:
    """Measure a system, and keep each step's figures.

    ``given`` holds ``starts``, ``writes`` and ``burst`` (how many machines) and ``idle`` (seconds); ``log`` is the API
    server's audit log, without which no writes are counted.
    """
    with suppress(ApiError):  # it is there already
        labels = {"pod-security.kubernetes.io/enforce": "privileged"}
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE, "labels": labels}}
        await client.create(NAMESPACES, space)
    async with watching(client, SPACE) as seen:
        bench = Bench(client, seen, namespace, kept.figures)
        for step in (one for one in STEPS if one in steps):
            if step == "idle":
                await bench.idle(given["idle"])
            elif step == "starts":
                await bench.starts(given["starts"])
            elif step == "memory":
                await bench.memory(MEMORY_COUNTS)
            elif step == "writes" and log is not None:
                await bench.writes(given["writes"], log)
            elif step == "burst":
                await bench.burst(given["burst"])
            kept.done(step)


def measure_own(steps: Sequence[str], given: Obj, path: Path) -> Figures:
    """Bring up a cluster of one real node with this tree's images, and measure Polyvisor in it."""
    from tests.e2e.node_images import demo_guests
    from tests.e2e.nodes import NodesCluster, cluster_with_nodes, images

    def audited(nodes: NodesCluster) -> None:
        nodes.extra["kube-apiserver"] = audit.arguments(nodes.folder)

    kept = Kept(path, "Polyvisor")
    with cluster_with_nodes(1, [*images(), demo_guests()], audited) as nodes:
        nodes.install()

        async def run() -> None:
            async with KubeClient.from_kubeconfig(nodes.kubeconfig) as client:
                await measure(client, kept, "kubevirt", steps, given, audit.log(nodes.folder))

        asyncio.run(run())
    return kept.figures
