"""What a test or a benchmark plays of a large cluster: nodes that kwok runs, and the agents of those nodes.

An agent that is played writes what the real one writes, made by the real one's own functions: once the launcher's Pod
runs, or, where nodes have no heartbeat, once virt-controller has handed the machine over. It looks at no launcher;
there is none.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polyvisor.agent.live import status
from polyvisor.api import Obj
from polyvisor.api.names import HEARTBEAT_ANNOTATION, EventType, Reason
from polyvisor.api.resources import VMIS
from polyvisor.api.times import stamp
from polyvisor.drivers import registry
from polyvisor.kube import Controller, EventRecorder, Informer, KubeClient, WorkQueue
from polyvisor.kube.tasks import end_task

DRIVERS = (("qemu", "kvm"), ("lxc", "lxc"), ("xen", "xen"), ("ch", "kvm"))
HELLO = {"hypervisorVersion": "7.2.22", "libvirtVersion": "9.0.0"}


def node(number: int) -> Obj:
    """Return a node of one of four kinds."""
    name = f"node-{number}"
    driver, virt_type = DRIVERS[number % len(DRIVERS)]
    labels = {f"hypervisor.kubevirt.io/{word}": "true" for word in (driver, f"{driver}.{virt_type}")}
    labels |= {"kubernetes.io/hostname": name, "kubernetes.io/arch": "amd64", "kubevirt.io/schedulable": "true"}
    room = {"cpu": "64", "memory": "512Gi", "pods": "250", "ephemeral-storage": "1Ti"}
    room |= {f"devices.kubevirt.io/{device}": "1000" for device in ("kvm", "tun", "vhost-net", "fuse")}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {"allocatable": room, "capacity": room},
    }


def node_ready(one: Obj) -> bool:
    """Whether Pods may go to a node."""
    conditions = (one.get("status") or {}).get("conditions") or []
    tainted = any(taint["key"].startswith("node.kubernetes.io/") for taint in one["spec"].get("taints") or [])
    return not tainted and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def with_heartbeat(one: Obj) -> Obj:
    """Return a node whose agent has been heard of a moment ago, so that machines are left to it to take over."""
    metadata = one["metadata"]
    beat = {HEARTBEAT_ANNOTATION: stamp()}
    return {**one, "metadata": {**metadata, "annotations": {**metadata["annotations"], **beat}}}


class Agents:
    """The agents of all nodes. With ``pods`` they take machines over themselves; their nodes have a heartbeat then."""

    def __init__(self, client: KubeClient, vmis: Informer, pods: Informer | None = None) -> None:
        self._client = client
        self._vmis = vmis
        self._running: set[tuple[str, str]] = set()
        self._drivers = registry()
        # these agents write with the account of virt-controller, which may write its own Events alone
        self.events = EventRecorder(client, "virtualmachine-controller")
        self.queue: WorkQueue[tuple[str, str]] = WorkQueue()
        vmis.on_change(self._changed)
        if pods is not None:
            pods.on_change(self._pod_changed)

    def _changed(self, _: Obj | None, new: Obj | None) -> None:
        if new is not None and self._mine(new):
            self.queue.add((new["metadata"]["namespace"], new["metadata"]["name"]))

    def _pod_changed(self, _: Obj | None, new: Obj | None) -> None:
        if new is None or (new.get("status") or {}).get("phase") != "Running":
            return
        for owner in new["metadata"].get("ownerReferences") or []:
            self._running.add(key := (new["metadata"]["namespace"], owner["name"]))
            self.queue.add(key)

    def _mine(self, vmi: Obj) -> bool:
        """Whether a machine is a node's to take over now."""
        phase = (vmi.get("status") or {}).get("phase")
        key = (vmi["metadata"]["namespace"], vmi["metadata"]["name"])
        return phase == "Scheduled" or (phase == "Scheduling" and key in self._running)

    async def reconcile(self, key: tuple[str, str]) -> None:
        """Write that a machine runs."""
        vmi = self._vmis.get(*key)
        if vmi is None or not self._mine(vmi):
            return
        driver = self._drivers.get(vmi["status"]["hypervisor"]["driver"])
        assert driver is not None
        new = status.running(vmi, {"state": "running", "reason": ""}, HELLO, driver, {})
        await self._client.update_status(VMIS, {**vmi, "status": new})
        said = "VirtualMachineInstance"
        self.events.event(vmi, EventType.NORMAL, Reason.CREATED, f"{said} defined.")
        self.events.event(vmi, EventType.NORMAL, Reason.STARTED, f"{said} started.")

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.events.run())
            group.create_task(Controller("agents", self.queue, self.reconcile, workers=16).run())


@contextmanager
def agents(kubeconfig: Path) -> Iterator[None]:
    """Play the agents in a thread of their own, for tests that do not run in a loop."""
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def work() -> None:
        async with KubeClient.from_kubeconfig(kubeconfig) as client, Informer(client, VMIS) as vmis:
            task = asyncio.create_task(Agents(client, vmis).run())
            await stop.wait()
            await end_task(task)

    thread = threading.Thread(target=loop.run_until_complete, args=(work(),), daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()
