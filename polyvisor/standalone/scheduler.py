"""The small scheduler of the standalone mode: binds each Pod without a node to one that it fits on.

One Pod is handled at a time, against the local copy plus the bindings made since, so that two Pods never share the
same room. A Pod that fits nowhere is marked so and tried again whenever a node or another Pod changes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from polyvisor.api.names import ConditionStatus, EventType, Reason
from polyvisor.api.reading import nested, read_status
from polyvisor.api.resources import NODES, PODS
from polyvisor.api.times import stamp
from polyvisor.kube import ApiError, Controller, EventRecorder, Informer, KubeClient, WorkQueue, key_of
from polyvisor.standalone.scheduling import advice, is_final, preference, requests_of, room, summary, why_not

if TYPE_CHECKING:
    from polyvisor.api import Obj

Key = tuple[str, str]
NAME = "default-scheduler"
NODE_INDEX = "node"


class Scheduler:
    """Binds Pods; the informers are run by the owner."""

    def __init__(self, client: KubeClient, recorder: EventRecorder, *, pods: Informer, nodes: Informer) -> None:
        self._client = client
        self._recorder = recorder
        self._pods, self._nodes = pods, nodes
        self._bound: dict[str, tuple[str, Obj]] = {}
        self.queue: WorkQueue[Key] = WorkQueue()
        self._controller = Controller("scheduler", self.queue, self.reconcile, workers=1)
        pods.add_index(NODE_INDEX, lambda pod: [nested(pod, "spec").get("nodeName") or ""])
        pods.on_change(self._pod_changed)
        nodes.on_change(self._node_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._controller.run()

    async def reconcile(self, key: Key) -> None:
        """Bind one Pod, or say why it cannot be."""
        pod = self._pods.get(*key)
        if pod is None or not _waits(pod) or pod["metadata"]["uid"] in self._bound:
            return
        fitting: list[tuple[int, object, str]] = []
        reasons: list[list[str]] = []
        hints: list[str] = []
        for node in self._nodes.items():
            left = room(node, self._pods_on(node["metadata"]["name"]))
            why = why_not(pod, node, left)
            if why:
                reasons.append(why)
                hints.append(advice(pod, node, left))
            else:
                rest = left.get("memory", 0) - requests_of(pod).get("memory", 0)
                fitting.append((preference(pod, node), rest, node["metadata"]["name"]))
        if fitting:
            await self._bind(pod, max(fitting)[2])
        else:
            await self._unschedulable(pod, " ".join([summary(reasons), *filter(None, hints)]))

    async def _bind(self, pod: Obj, node: str) -> None:
        metadata = pod["metadata"]
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        self._bound[metadata["uid"]] = (node, pod)
        try:
            await self._client.create(PODS, binding, name=metadata["name"], subresource="binding")
        except ApiError as error:
            self._bound.pop(metadata["uid"], None)
            if not (error.not_found or error.conflict):
                raise
            return
        what = f"Successfully assigned {metadata['namespace']}/{metadata['name']} to {node}"
        self._recorder.event(pod, EventType.NORMAL, Reason.SCHEDULED, what)

    async def _unschedulable(self, pod: Obj, message: str) -> None:
        for condition in read_status(pod).get("conditions") or []:
            if condition.get("type") == "PodScheduled" and condition.get("message") == message:
                return
        told = {
            "type": "PodScheduled",
            "status": str(ConditionStatus.FALSE),
            "reason": str(Reason.UNSCHEDULABLE),
            "message": message,
            "lastProbeTime": None,
            "lastTransitionTime": self._since(pod),
        }
        metadata = pod["metadata"]
        try:
            await self._client.patch(
                PODS,
                metadata["name"],
                {"metadata": {"uid": metadata["uid"]}, "status": {"conditions": [told]}},
                metadata["namespace"],
                patch_type="strategic",
                subresource="status",
            )
        except ApiError as error:
            if not (error.not_found or error.conflict):
                raise
            return
        self._recorder.event(pod, EventType.WARNING, Reason.FAILED_SCHEDULING, message)

    def _since(self, pod: Obj) -> str:
        for condition in read_status(pod).get("conditions") or []:
            if condition.get("type") == "PodScheduled" and condition.get("status") == ConditionStatus.FALSE:
                return str(condition.get("lastTransitionTime"))
        return stamp()

    def _pods_on(self, node: str) -> list[Obj]:
        seen = self._pods.by_index(NODE_INDEX, node)
        known = {pod["metadata"]["uid"] for pod in seen}
        return seen + [pod for uid, (name, pod) in self._bound.items() if name == node and uid not in known]

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        pod = new or old or {}
        if new is None or nested(new, "spec").get("nodeName"):
            self._bound.pop(pod["metadata"].get("uid"), None)
        if new is not None and _waits(new):
            self.queue.add(key_of(new))
        elif new is None or (is_final(new) and old is not None and not is_final(old)):
            self._retry()

    def _node_changed(self, old: Obj | None, new: Obj | None) -> None:
        if old is None or new is None or _matters(old) != _matters(new):
            self._retry()

    def _retry(self) -> None:
        for pod in self._pods.by_index(NODE_INDEX, ""):
            if _waits(pod):
                self.queue.add(key_of(pod))


async def run_scheduler(client: KubeClient, *, ready: asyncio.Event | None = None) -> None:
    """Run the scheduler until cancelled; set ``ready`` when it has seen all Pods and nodes."""
    pods, nodes = Informer(client, PODS), Informer(client, NODES)
    recorder = EventRecorder(client, NAME)
    scheduler = Scheduler(client, recorder, pods=pods, nodes=nodes)
    async with asyncio.TaskGroup() as group:
        group.create_task(recorder.run(), name="scheduler-events")
        group.create_task(pods.run(), name="scheduler-pods")
        group.create_task(nodes.run(), name="scheduler-nodes")
        await pods.synced()
        await nodes.synced()
        group.create_task(scheduler.run(), name="scheduler")
        if ready is not None:
            ready.set()


def _waits(pod: Obj) -> bool:
    spec = pod.get("spec") or {}
    mine = (spec.get("schedulerName") or NAME) == NAME
    return mine and not spec.get("nodeName") and not pod["metadata"].get("deletionTimestamp") and not is_final(pod)


def _matters(node: Obj) -> tuple[object, ...]:
    status = node.get("status") or {}
    ready = [c.get("status") for c in status.get("conditions") or [] if c.get("type") == "Ready"]
    return node["metadata"].get("labels"), node.get("spec"), status.get("allocatable"), ready
