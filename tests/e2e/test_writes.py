"""How much is written for a machine, counted and not timed: controllers and agent against a real API server.

An API server drops what a definition does not know and what is null, so only a real one shows what is written again and
again. The guest is one of libvirt's in-memory test driver, and the test plays the scheduler.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.agent import Agent, Settings
from polyvisor.agent.live import render
from polyvisor.api.resources import NODES, PODS, VMIS, VMS, Resource
from polyvisor.controllers import run_controllers
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.base import ProbeResult
from polyvisor.kube import ApiError, Informer, KubeClient
from polyvisor.kube.metrics import resource_of
from polyvisor.kube.tasks import end_task
from tests.agent.test_machines import xml
from tests.drivers_for_tests import FakeDriver
from tests.e2e.cluster import Cluster, cluster

pytestmark = pytest.mark.e2e

Obj = dict[str, Any]
NODE = "here"
SPACE = "default"
DEFINITIONS = Path(__file__).resolve().parents[2] / "deploy" / "crds"
WRITES = ("POST", "PUT", "PATCH", "DELETE")
KUBELETS = {("agent", "PUT pods/status"), ("agent", "DELETE pods"), ("agent", "DELETE pods 404")}
"""What a kubelet writes of a Pod, and the agent in its place; without a grace period the Pod may be gone before."""
ASIDE = ("events", "leases", "nodes", "nodes/status")


class PlainDriver(FakeDriver):
    """Has every feature, and works everywhere."""

    def __init__(self) -> None:
        super().__init__("plain", ("plain",), frozenset())

    def probe(self, scratch: Path) -> ProbeResult:
        return ProbeResult(available=True, version="1.2", virt_types=("plain",))


class World:
    """Controllers and an agent, whose writes are counted by who makes them."""

    def __init__(self, control_plane: Cluster) -> None:
        self._kubeconfig = control_plane.kubeconfig
        self.writes: Counter[tuple[str, str]] = Counter()
        self.events = 0

    def client(self, who: str = "") -> KubeClient:
        def observe(verb: str, path: str, code: int, _seconds: float) -> None:
            what = resource_of(path)
            if who and verb in WRITES and what not in ASIDE:
                self.writes[who, f"{verb} {what}" + ("" if code < 300 else f" {code}")] += 1
            self.events += bool(who) and verb in WRITES and what == "events"

        return KubeClient.from_kubeconfig(self._kubeconfig, observe=observe)

    @asynccontextmanager
    async def working(self, state: Path) -> AsyncIterator[Informer]:
        drivers = DriverRegistry([PlainDriver()])
        async with self.client() as user, self.client("controllers") as ours, self.client("agent") as node:
            await _made(user)
            agent = Agent(node, drivers, Settings(NODE, state))
            tasks = [asyncio.create_task(agent.run()), asyncio.create_task(run_controllers(ours, drivers))]
            tasks.append(asyncio.create_task(_schedule(user)))
            async with Informer(user, NODES) as nodes, Informer(user, VMIS) as vmis:
                await nodes.wait_until(_labelled, 60)
                yield vmis
            for task in tasks:
                await end_task(task)

    def taken(self) -> Counter[tuple[str, str]]:
        """Return what was written since the last call, apart from what kubelets write."""
        found = Counter({key: count for key, count in self.writes.items() if key not in KUBELETS})
        self.writes.clear()
        return found


async def _made(user: KubeClient) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await user.list(VMIS)
                await user.request("GET", f"/api/v1/namespaces/{SPACE}/serviceaccounts/default")
            except ApiError:
                await asyncio.sleep(0.2)
            else:
                return


def _labelled(nodes: Informer) -> bool:
    found = nodes.get(None, NODE) or {"metadata": {}}
    return (found["metadata"].get("labels") or {}).get("hypervisor.kubevirt.io/plain") == "true"


async def _schedule(user: KubeClient) -> None:
    async with Informer(user, PODS) as pods:
        bound: set[str] = set()

        def waiting(seen: Informer) -> list[Obj]:
            return [p for p in seen.items() if not p["spec"].get("nodeName") and p["metadata"]["uid"] not in bound]

        while True:
            for pod in await pods.wait_until(waiting, None):
                bound.add(pod["metadata"]["uid"])
                name = pod["metadata"]["name"]
                binding = {"apiVersion": "v1", "kind": "Binding", "target": {"kind": "Node", "name": NODE}}
                binding["metadata"] = {"name": name, "namespace": SPACE}
                await user.create(PODS, binding, SPACE, name=name, subresource="binding")


def instance(name: str) -> Obj:
    spec = {"domain": {"memory": {"guest": "64Mi"}, "devices": {"interfaces": [{"name": "default", "masquerade": {}}]}}}
    spec |= {"networks": [{"name": "default", "pod": {}}], "terminationGracePeriodSeconds": 0}
    metadata = {"name": name, "namespace": SPACE, "finalizers": ["kubevirt.io/foregroundDeleteVirtualMachine"]}
    return {"apiVersion": "kubevirt.io/v1", "kind": VMIS.kind, "metadata": metadata, "spec": spec}


def machine(name: str) -> Obj:
    template = {"metadata": {"labels": {"app": name}}, "spec": instance(name)["spec"]}
    metadata = {"name": name, "namespace": SPACE, "finalizers": ["kubevirt.io/virtualMachineControllerFinalize"]}
    spec = {"runStrategy": "Always", "template": template}
    return {"apiVersion": "kubevirt.io/v1", "kind": VMS.kind, "metadata": metadata, "spec": spec}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(render, "domain_xml", xml)
    with cluster("kube-controller-manager") as control_plane:
        control_plane.kubectl("apply", "--server-side", "-f", str(DEFINITIONS))
        yield World(control_plane)


def running(vmi: Obj | None) -> bool:
    return ((vmi or {}).get("status") or {}).get("phase") == "Running"


def gates_open(pod: Obj) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(c["type"] == "kubevirt.io/virtual-machine-unpaused" and c["status"] == "True" for c in conditions)


@pytest.mark.parametrize(
    ("resource", "make", "start", "end"), [(VMIS, instance, 5, 3), (VMS, machine, 9, 6)], ids=["vmi", "vm"]
)
async def test_a_start_and_an_end_take_few_writes_and_no_conflict(
    world: World, tmp_path: Path, resource: Resource, make: Callable[[str], Obj], start: int, end: int
) -> None:
    async with world.working(tmp_path) as vmis, world.client() as user, Informer(user, PODS) as pods:
        for name in ("first", "m"):  # the first one pays for what is done once
            world.taken()
            await user.create(resource, make(name))
            await vmis.wait_until(lambda seen, name=name: running(seen.get(SPACE, name)), 60)
            await pods.wait_until(lambda seen: all(gates_open(pod) for pod in seen.items()), 60)
            if resource is VMS:
                async with Informer(user, VMS) as vms:
                    await vms.wait_until(lambda seen, name=name: seen.get(SPACE, name)["status"].get("ready"), 60)
            await asyncio.sleep(3)  # what comes after that would come by now, and nothing tells that it does not
        written = world.taken()
        assert not [what for _, what in written if what.split()[-1].isdecimal()], written
        assert written.total() <= start, written
        await user.delete(resource, "m", SPACE)
        await vmis.wait_until(lambda seen: seen.get(SPACE, "m") is None, 60)
        async with Informer(user, resource) as left:
            await left.wait_until(lambda seen: seen.get(SPACE, "m") is None, 60)
        ended = world.taken()
        await user.delete(resource, "first", SPACE)  # no launcher is left
        await vmis.wait_until(lambda seen: not seen.items(), 60)
        await pods.wait_until(lambda seen: not seen.items(), 60)
    assert ended.total() <= end, ended
