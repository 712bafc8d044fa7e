"""What becomes of a node that falls silent, and of what is known about its machines.

A node whose agent has not been heard of for five minutes takes no more machines; it is the agent itself that opens it
again. (A node whose kubelet is silent is closed by Kubernetes, with a taint.) Machines on a node that is silent or not
ready are shown as not ready, with the reason: nobody can tell whether their guests still run. They are not ended and
not started elsewhere by that; see :func:`may_hold` for when they are.

The condition is this controller's as long as it carries one of its reasons, and the agent leaves it alone; once the
node is well again the condition is taken away, and the agent tells how the machine is.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from polyvisor.api import names, node_names
from polyvisor.api.endpoint_names import ENDPOINT_FINALIZER
from polyvisor.api.names import (
    FINAL_PHASES,
    NODE_TROUBLES,
    ConditionStatus,
    EventType,
    Phase,
    Reason,
    VmiCondition,
)
from polyvisor.api.reading import annotations_of, labels_of, nested, read_status
from polyvisor.api.resources import NODES, VMIS
from polyvisor.controllers.objects import (
    condition,
    drop_condition,
    has_finalizer,
    moment,
    now,
    phase_of,
    set_condition,
)
from polyvisor.kube import Controller, EventRecorder, Informer, KubeClient, WorkQueue

if TYPE_CHECKING:
    from polyvisor.api import Obj

HEARTBEAT_TIMEOUT = timedelta(minutes=5)
RECHECK_SECONDS = 60.0
OUT_OF_SERVICE_TAINT = "node.kubernetes.io/out-of-service"
NODE_INDEX = "node"
log = logging.getLogger("polyvisor.nodes")


class NodeController:
    """Reconciles one node and the machines on it; the informers are shared and are run by the owner."""

    def __init__(
        self,
        client: KubeClient,
        recorder: EventRecorder,
        *,
        nodes: Informer,
        vmis: Informer,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._nodes, self._vmis = nodes, vmis
        self._clock = clock
        self.queue: WorkQueue[str] = WorkQueue()
        self._controller = Controller("virt-controller-node", self.queue, self.reconcile, 1)
        vmis.add_index(NODE_INDEX, lambda vmi: [node_of(vmi)])
        nodes.on_change(lambda old, new: self.queue.add((new or old or {})["metadata"]["name"]))
        vmis.on_change(self._vmi_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._controller.run()

    async def reconcile(self, name: str) -> float | None:
        """Bring one node's label and its machines' conditions in line with what is seen of the node."""
        node = self._nodes.get(None, name)
        at = self._clock()
        if node is not None and is_silent(node, at) and _takes_machines(node):
            what = "virt-handler is not responsive, marking node as unresponsive"
            self._recorder.event(node, EventType.WARNING, Reason.NODE_UNRESPONSIVE, what)
            await self._client.patch(NODES, name, {"metadata": {"labels": {names.NODE_SCHEDULABLE_LABEL: "false"}}})
        found = trouble(name, node, at)
        for vmi in self._vmis.by_index(NODE_INDEX, name):
            if phase_of(vmi) in (Phase.SCHEDULED, Phase.RUNNING):
                await self._show(vmi, found, at)
        return RECHECK_SECONDS if node is not None else None

    async def _show(self, vmi: Obj, found: tuple[Reason, str] | None, at: datetime) -> None:
        changed = copy.deepcopy(vmi)
        if found is None:
            drop_condition(changed["status"], VmiCondition.READY, NODE_TROUBLES)
        else:
            reason, message = found
            set_condition(changed["status"], VmiCondition.READY, ConditionStatus.FALSE, reason, message, at=at)
        if changed == vmi:
            return
        self._vmis.learn(await self._client.update_status(VMIS, changed))
        if found is not None and (condition(vmi, VmiCondition.READY) or {}).get("reason") not in NODE_TROUBLES:
            self._recorder.event(vmi, EventType.WARNING, found[0], found[1])

    def _vmi_changed(self, old: Obj | None, new: Obj | None) -> None:
        if new is not None and node_of(new) and phase_of(new) not in FINAL_PHASES:
            self.queue.add(node_of(new))


def trouble(name: str, node: Obj | None, at: datetime) -> tuple[Reason, str] | None:
    """Return why nobody can tell how machines on a node are; None if all is well with it."""
    if node is None:
        return Reason.NODE_UNRESPONSIVE, f"there is no Node {name} any more; whether the guest still runs is not known"
    ready = condition(node, "Ready")
    if ready is not None and ready.get("status") != ConditionStatus.TRUE:
        why = ready.get("message") or ready.get("reason") or "no reason is given"
        return Reason.NODE_NOT_READY, f"node {name} is not ready: {why}; whether the guest still runs is not known"
    if is_silent(node, at):
        since = annotations_of(node).get(names.HEARTBEAT_ANNOTATION)
        what = f"virt-handler on node {name} has not been heard of since {since}"
        return Reason.NODE_UNRESPONSIVE, f"{what}; whether the guest still runs is not known"
    return None


def shown(node: Obj) -> tuple[object, ...]:
    """Return what of a node counts for placement and for what is said of it."""
    report = annotations_of(node).get(node_names.DRIVERS_ANNOTATION)
    return node["metadata"].get("labels"), nested(node, "spec").get("unschedulable"), report


def is_open(node: Obj) -> bool:
    """Whether a launcher Pod, which asks for the label, may go to the node at all."""
    return _takes_machines(node) and not nested(node, "spec").get("unschedulable")


def is_silent(node: Obj, at: datetime) -> bool:
    """Whether a node's agent was heard of once and has not been for long."""
    text = annotations_of(node).get(names.HEARTBEAT_ANNOTATION)
    heard = moment(text)
    if text and heard is None:
        log.warning("node %s: %s is no time: %r", node["metadata"]["name"], names.HEARTBEAT_ANNOTATION, text[:40])
    return heard is not None and at - heard > HEARTBEAT_TIMEOUT


def may_hold(node: Obj | None, at: datetime) -> bool:
    """Whether a machine whose Pod object is gone may still run on a node whose agent will tell.

    Deleting a Pod by force removes the object at once and the guest some time later. A live agent says when the guest
    is gone, so it is waited for. Nobody waits for a node that was deleted, that carries the out-of-service taint, or
    that has been silent for long: there, who deleted the Pod answers for the guest being dead.
    """
    if node is None or any(t.get("key") == OUT_OF_SERVICE_TAINT for t in nested(node, "spec").get("taints") or []):
        return False
    heard = annotations_of(node).get(names.HEARTBEAT_ANNOTATION)
    return moment(heard) is not None and not is_silent(node, at)


def may_run(vmi: Obj, node: Obj | None, at: datetime) -> bool:
    """Whether a machine without a Pod may still have a guest, on its node or on the host of an endpoint.

    The endpoint's agent holds the machine's object until the domain is gone, however long its host is away.
    """
    handed_over = bool(node_of(vmi)) and phase_of(vmi) in (Phase.SCHEDULED, Phase.RUNNING)
    return has_finalizer(vmi, ENDPOINT_FINALIZER) or (handed_over and may_hold(node, at))


def _takes_machines(node: Obj) -> bool:
    return labels_of(node).get(names.NODE_SCHEDULABLE_LABEL) == "true"


def node_of(vmi: Obj) -> str:
    """Return the name of the node that a machine was handed over to."""
    return str(read_status(vmi).get("nodeName") or "")
