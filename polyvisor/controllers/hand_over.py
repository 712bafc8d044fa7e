"""When a machine's status is written on its way to a node: once its Pod is bound, and then by the node's agent.

The scheduler binds a Pod within milliseconds, so the first write waits for that and tells of both, the Pod and its
node. Which launcher runs on its node an agent sees before the kubelet reports it, which takes up to a second; so an
agent takes the machine over by itself and writes that it was Scheduled together with what it made of it. What isn't
obvious: there must be no agent that is waited for in vain. Where none is heard of, where a virtual node's agent reports
its Pods itself and at once, and where an agent takes its time, the controller hands the machine over.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from polyvisor.api.names import COMPUTE_CONTAINER, VIRTUAL_NODE_TAINT, ConditionStatus, Phase
from polyvisor.api.reading import nested, read_status
from polyvisor.controllers.nodes import may_hold, may_run, node_of
from polyvisor.controllers.objects import condition, moment, phase_of, uid

if TYPE_CHECKING:
    from datetime import datetime

    from polyvisor.api import Obj
    from polyvisor.kube import Informer
    from polyvisor.placement import Placement

BIND_SECONDS = 0.5
"""How long nothing is written of a Pod that the scheduler has said nothing of yet."""
AGENT_SECONDS = 5.0
"""How long a node's agent has, from the start of the launcher's container, to take a machine over by itself."""


class HandOver:
    """Knows the Pods that were made a moment ago. ``clock`` is a monotonic one."""

    def __init__(self, nodes: Informer, clock: Callable[[], float] = time.monotonic) -> None:
        self._nodes = nodes
        self._clock = clock
        self._made: dict[str, tuple[Placement, float]] = {}

    def made(self, vmi: Obj, placement: Placement) -> float:
        """Note that a machine's Pod was made as placement decided; return how long to wait for the scheduler's word."""
        self._made[uid(vmi)] = placement, self._clock()
        return BIND_SECONDS

    def scheduler_has(self, vmi: Obj, pod: Obj) -> float:
        """Return for how many seconds nothing is to be written of a Pod, because its node may be known any moment."""
        _, since = self._made.get(uid(vmi), (None, 0.0))
        said = (condition(pod, "PodScheduled") or {}).get("status") == ConditionStatus.FALSE
        if not since or said or nested(pod, "spec").get("nodeName"):
            return 0.0
        return max(0.0, since + BIND_SECONDS - self._clock())

    def placement(self, vmi: Obj) -> Placement | None:
        """Return what a machine's Pod was made for, if that was a moment ago."""
        return self._made.get(uid(vmi), (None, 0.0))[0]

    def written(self, vmi: Obj) -> None:
        """Forget a Pod that the machine's status tells of, or that is gone."""
        self._made.pop(uid(vmi), None)

    def agent_has(self, pod: Obj, at: datetime) -> float:
        """Return for how many seconds it is left to the node's agent to take over the machine of a Pod at work."""
        since = _running_since(pod)
        if since is None or not self.by_agent(str(pod["spec"].get("nodeName") or ""), at):
            return 0.0
        return max(0.0, AGENT_SECONDS - (at - since).total_seconds())

    def may_still_run(self, vmi: Obj, at: datetime) -> bool:
        """Whether a machine without a Pod may still have a guest, whose end an agent will report."""
        name = node_of(vmi)
        taken = phase_of(vmi) == Phase.SCHEDULING and self.by_agent(name, at)
        return taken or may_run(vmi, self._nodes.get(None, name), at)

    def by_agent(self, name: str, at: datetime) -> bool:
        """Whether a Node has an agent that takes machines over by itself: one that lives, beside a kubelet."""
        node = self._nodes.get(None, name)
        taints = ((node or {}).get("spec") or {}).get("taints") or []
        return may_hold(node, at) and all(taint.get("key") != VIRTUAL_NODE_TAINT for taint in taints)


def _running_since(pod: Obj) -> datetime | None:
    for one in read_status(pod).get("containerStatuses") or []:
        if one.get("name") == COMPUTE_CONTAINER:
            return moment(nested(one, "state", "running").get("startedAt"))
    return None
