"""A machine moves between two nodes' real agents and real launchers, over TLS; the hypervisor's monitor is played."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.platform.pod_launchers import EMPTY_DIRS
from polyvisor.agent.process import Handler
from polyvisor.api.resources import NODES, PODS, VMIS
from polyvisor.drivers.base import LauncherPlan
from polyvisor.kube.tasks import end_task
from polyvisor.process.handlers import Handlers
from polyvisor.testing import Client

from ..conftest import PlainDriver
from ..played_kubelet import Kubelet

Obj = dict[str, Any]
MONITOR = Path(__file__).with_name("monitor")
MOVE = {
    "call": "libvirt_played.command",
    "events": "libvirt_played.events",
    "event": "MOVED",
    "receiving": '{"do": "nothing"}',
    "receive": '{"do": "receive", "socket": "@socket@"}',
    "sending": '{"do": "nothing"}',
    "limits": '{"do": "nothing"}',
    "send": '{"do": "send", "socket": "@socket@"}',
    "look": '{"do": "look"}',
    "cancel": '{"do": "cancel"}',
}


class Nodes:
    """Two nodes with an agent each; while the file ``hold`` is there, no machine is sent wholly."""

    def __init__(self, kubelet: Kubelet, folder: Path) -> None:
        self.kubelet = kubelet
        self.folder = folder
        self.hold = folder / "hold"
        self.handlers: dict[str, Handler] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, node: str) -> None:
        handler = self.kubelet.handler(self.folder / node, node)
        self.handlers[node] = handler
        self.tasks[node] = asyncio.create_task(handler.run())
        await asyncio.sleep(0)
        async with asyncio.timeout(20):
            await handler.health.ready()

    async def stop(self, node: str) -> None:
        await end_task(self.tasks.pop(node))

    async def machine(self) -> Obj:
        await self.kubelet.machine("one")
        return await self.kubelet.until(VMIS, "one", lambda v: (v.get("status") or {}).get("phase") == "Running")

    async def moved(self, ended: str = "completed") -> Obj:
        vmi = await self.kubelet.until(VMIS, "one", lambda v: (v["status"].get("migrationState") or {}).get(ended))
        return dict(vmi["status"]["migrationState"])

    async def hand_over(self, pod: Obj) -> None:
        """Do what virt-controller does once a move is complete."""
        vmi = await self.kubelet.client.get(VMIS, "one", "default")
        vmi["status"]["nodeName"] = pod["spec"]["nodeName"]
        await self.kubelet.client.update_status(VMIS, vmi)

    async def until(self, pod: Obj, state: str) -> None:
        """Wait until the launcher of a Pod says that its domain is in a state."""
        folder = self.kubelet.pods / pod["metadata"]["uid"] / EMPTY_DIRS / "polyvisor"
        client = await asyncio.to_thread(Client, folder)
        try:
            await asyncio.to_thread(client.until, state)
        finally:
            client.close()


@pytest.fixture
async def nodes(kubelet: Kubelet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Nodes]:
    found = Nodes(kubelet, tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(MONITOR))
    monkeypatch.setenv("PLAYED_HOLD", str(found.hold))
    monkeypatch.setattr(PlainDriver, "launcher", lambda *_: LauncherPlan(uri="test:///default", move=MOVE))
    monkeypatch.setattr(PlainDriver, "receive", lambda *_: None)

    async def address(_: Handlers, node: str) -> str:
        return f"127.0.0.1:{found.handlers[node].port}"

    monkeypatch.setattr(Handlers, "address", address)
    await kubelet.certificates()
    await kubelet.client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n2"}})
    async with AsyncExitStack() as stack:
        for node in ("n1", "n2"):
            await found.start(node)
        yield found
        for node in list(found.tasks):
            stack.push_async_callback(found.stop, node)


async def test_a_machine_moves_and_goes_on(nodes: Nodes) -> None:
    vmi = await nodes.machine()
    first = await nodes.kubelet.client.get(PODS, "virt-launcher-one", "default")
    pod = await nodes.kubelet.target(vmi, "n2", "job")
    state = await nodes.moved()
    assert not state.get("failed"), state
    assert state["targetNodeAddress"] == "127.0.0.1"
    assert await nodes.kubelet.ended(first["metadata"]["uid"]) == 0
    await nodes.until(pod, "running")
    await nodes.hand_over(pod)
    moved = await nodes.kubelet.until(VMIS, "one", lambda v: v["status"]["nodeName"] == "n2")
    assert moved["status"]["phase"] == "Running"
    await nodes.kubelet.client.delete(VMIS, "one", "default")
    await nodes.kubelet.until(VMIS, "one", lambda v: v["status"]["phase"] in ("Succeeded", "Failed"))
    assert await nodes.kubelet.ended(pod["metadata"]["uid"]) == 0


async def test_an_abort_in_the_middle_leaves_it_where_it_was(nodes: Nodes) -> None:
    nodes.hold.touch()
    vmi = await nodes.machine()
    first = await nodes.kubelet.client.get(PODS, "virt-launcher-one", "default")
    pod = await nodes.kubelet.target(vmi, "n2", "job")
    await nodes.moved("startTimestamp")
    await nodes.kubelet.client.patch(VMIS, "one", {"status": {"migrationState": {"abortRequested": True}}}, "default")
    state = await nodes.moved("failed")
    assert state["abortStatus"] == "Succeeded"
    await nodes.until(first, "running")
    assert await nodes.kubelet.ended(pod["metadata"]["uid"]) is not None
    found = await nodes.kubelet.client.get(VMIS, "one", "default")
    assert found["status"]["phase"] == "Running"


async def test_a_target_that_is_killed_leaves_it_where_it_was(nodes: Nodes) -> None:
    nodes.hold.touch()
    vmi = await nodes.machine()
    first = await nodes.kubelet.client.get(PODS, "virt-launcher-one", "default")
    pod = await nodes.kubelet.target(vmi, "n2", "job")
    await nodes.moved("startTimestamp")
    nodes.kubelet.launchers[pod["metadata"]["uid"]].kill()
    nodes.hold.unlink()
    await nodes.moved("failed")
    await nodes.until(first, "running")


async def test_the_next_agent_of_the_source_gives_up_what_a_former_one_began(nodes: Nodes) -> None:
    nodes.hold.touch()
    vmi = await nodes.machine()
    first = await nodes.kubelet.client.get(PODS, "virt-launcher-one", "default")
    await nodes.kubelet.target(vmi, "n2", "job")
    await nodes.moved("startTimestamp")
    await nodes.stop("n1")
    assert "failed" not in (await nodes.moved("startTimestamp"))
    await nodes.start("n1")
    state = await nodes.moved("failed")
    assert "has ended" in state["failureReason"]
    await nodes.until(first, "running")
