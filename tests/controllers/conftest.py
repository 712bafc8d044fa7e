from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from polyvisor.api.resources import EVENTS, NODES, PODS, VMIS, VMS
from polyvisor.controllers import run_controllers
from polyvisor.drivers import DriverRegistry
from polyvisor.kube import ApiError, Informer, KubeClient
from tests.cluster import running
from tests.drivers_for_tests import FakeDriver, node

Obj = dict[str, Any]
NAMESPACE = "default"


@dataclass
class World:
    """A cluster with controllers; the test plays scheduler, node and agent."""

    client: KubeClient
    vms: Informer
    vmis: Informer
    pods: Informer
    nodes: dict[str, Obj] = field(default_factory=dict)

    async def vm(self, name: str, until: Callable[[Obj], Any]) -> Obj:
        return await _until(self.vms, name, until)

    async def vmi(self, name: str, until: Callable[[Obj], Any]) -> Obj:
        return await _until(self.vmis, name, until)

    async def pod(self, vmi: str, until: Callable[[Obj], Any] = lambda pod: True) -> Obj:
        def look(informer: Informer) -> Obj | None:
            for pod in informer.items():
                if (pod["metadata"].get("annotations") or {}).get("kubevirt.io/domain") == vmi and until(pod):
                    return pod
            return None

        found = await self.pods.wait_until(look, 10)
        assert found is not None
        return found

    async def gone(self, informer: Informer, name: str) -> None:
        await informer.wait_until(lambda i: i.get(NAMESPACE, name) is None, 10)

    async def create_vmi(self, name: str = "m", spec: Obj | None = None, **metadata: Any) -> Obj:
        return await self.client.create(VMIS, instance(name, spec, **metadata))

    async def create_vm(self, name: str = "m", **spec: Any) -> Obj:
        body = instance(name)
        return await self.client.create(
            VMS,
            {
                "apiVersion": "kubevirt.io/v1",
                "kind": "VirtualMachine",
                "metadata": {"name": name, "namespace": NAMESPACE},
                "spec": {**spec, "template": {"metadata": {"labels": {"app": name}}, "spec": body["spec"]}},
            },
        )

    async def run_pod(self, pod: Obj, node: str = "n1") -> None:
        """Play scheduler and node: bind the Pod and start its container."""
        await self.bind(pod, node)
        await self.pod_status(pod, phase="Running", containerStatuses=[compute(running={})])

    async def bind(self, pod: Obj, node: str = "n1") -> None:
        """Play the scheduler."""
        name = pod["metadata"]["name"]
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "target": {"kind": "Node", "name": node},
        }
        await self.client.create(PODS, binding, NAMESPACE, name=name, subresource="binding")

    async def pod_status(self, pod: Obj, **status: Any) -> None:
        await self.client.patch(
            PODS, pod["metadata"]["name"], {"status": status}, NAMESPACE, patch_type="merge", subresource="status"
        )

    async def vmi_status(self, name: str, **status: Any) -> None:
        """Play the agent: change fields of the machine's status."""
        while True:
            vmi = await self.client.get(VMIS, name, NAMESPACE)
            phase = status.get("phase")
            passed = list(vmi["status"].get("phaseTransitionTimestamps") or [])
            if phase:
                passed.append({"phase": phase, "phaseTransitionTimestamp": "2026-01-01T00:00:00Z"})
            vmi["status"] |= {**status, "phaseTransitionTimestamps": passed}
            try:
                await self.client.update(VMIS, vmi)
                return
            except ApiError as error:
                if not error.conflict:
                    raise

    async def running(self, name: str = "m") -> Obj:
        """Bring a machine to Running."""
        pod = await self.pod(
            name, lambda p: not p["metadata"].get("deletionTimestamp") and not p["spec"].get("nodeName")
        )
        await self.run_pod(pod)
        await self.vmi(name, lambda v: v["status"]["phase"] == "Scheduled")
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        await self.vmi_status(name, phase="Running", conditions=[ready])
        return pod

    async def end_pod(self, pod: Obj) -> None:
        """Play the node at the end of a graceful deletion."""
        await self.client.delete(PODS, pod["metadata"]["name"], NAMESPACE, grace_period_seconds=0)

    async def change(self, resource: Any, name: str, **patch: Any) -> Obj:
        return await self.client.patch(resource, name, patch, NAMESPACE)

    async def request(self, name: str, *requests: Obj) -> None:
        patch = {"status": {"stateChangeRequests": list(requests)}}
        await self.client.patch(VMS, name, patch, NAMESPACE, subresource="status")

    async def event(self, reason: str, kind: str = "") -> Obj:
        """Wait for an Event with that reason, about an object of that kind."""

        def look(informer: Informer) -> Obj:
            found = (e for e in informer.items() if e["reason"] == reason)
            return next((e for e in found if kind in ("", e["involvedObject"]["kind"])), {})

        async with Informer(self.client, EVENTS, NAMESPACE) as events:
            return await events.wait_until(look, 10)


def instance(name: str, spec: Obj | None = None, **metadata: Any) -> Obj:
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": name, "namespace": NAMESPACE, **metadata},
        "spec": {"domain": {"devices": {}, "memory": {"guest": "64Mi"}}} | (spec or {}),
    }


def compute(**state: Any) -> Obj:
    return {
        "name": "compute",
        "ready": "running" in state,
        "state": state,
        "image": "i",
        "imageID": "",
        "restartCount": 0,
    }


async def _until(informer: Informer, name: str, until: Callable[[Obj], Any]) -> Obj:
    def look(i: Informer) -> Obj | None:
        found = i.get(NAMESPACE, name)
        try:
            return found if found is not None and until(found) else None
        except KeyError:
            return None

    try:
        found = await informer.wait_until(look, 10)
    except TimeoutError:
        raise AssertionError(f"{name} is {informer.get(NAMESPACE, name)}") from None
    assert found is not None
    return found


@pytest.fixture
def drivers() -> DriverRegistry:
    return DriverRegistry([FakeDriver("alpha"), FakeDriver("beta", ("box",), frozenset())])


@pytest.fixture
async def world(tmp_path: Path, drivers: DriverRegistry) -> AsyncIterator[World]:
    async with running(tmp_path) as client:
        for each in (node("n1", "alpha", "alpha.fast"), node("n2", "beta", "beta.box")):
            await client.create(NODES, each)
        ready = asyncio.Event()
        controllers = asyncio.create_task(run_controllers(client, drivers, ready=ready))
        await asyncio.wait_for(ready.wait(), 10)
        async with Informer(client, VMS) as vms, Informer(client, VMIS) as vmis, Informer(client, PODS) as pods:
            yield World(client, vms, vmis, pods)
        controllers.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await controllers
