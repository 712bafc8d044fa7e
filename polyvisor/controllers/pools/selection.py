"""Which virtual machines of a pool come first: for removal, for an update, for replacement. Pure but for chance."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from polyvisor.api import selectors
from polyvisor.api.durations import seconds_of
from polyvisor.api.names import ConditionStatus, PrintableStatus, VmCondition
from polyvisor.api.pools import SortPolicy, StatePreservation
from polyvisor.api.reading import nested, read_status
from polyvisor.controllers.objects import condition, moment
from polyvisor.controllers.pools.template import index_of

if TYPE_CHECKING:
    from polyvisor.api import Obj

START_FAILURES = 3
FAILING_SECONDS = 300.0
_TROUBLES = frozenset(
    {
        PrintableStatus.CRASH_LOOP_BACK_OFF,
        PrintableStatus.ERROR_UNSCHEDULABLE,
        PrintableStatus.DATA_VOLUME_ERROR,
        PrintableStatus.ERROR_PVC_NOT_FOUND,
        PrintableStatus.ERR_IMAGE_PULL,
        PrintableStatus.IMAGE_PULL_BACK_OFF,
    }
)


def scales_in(pool: Obj) -> bool:
    """Whether the controller removes virtual machines itself when there are too many."""
    strategy = pool["spec"].get("scaleInStrategy") or {}
    return strategy.get("unmanaged") is None and strategy.get("opportunistic") is None


def keeps_claims(pool: Obj) -> bool:
    """Whether the claims of a removed virtual machine stay."""
    strategy = pool["spec"].get("scaleInStrategy") or {}
    chosen = strategy.get("opportunistic") or strategy.get("proactive") or {}
    return (chosen.get("statePreservation") or StatePreservation.DISABLED) != StatePreservation.DISABLED


def to_remove(pool: Obj, vms: Sequence[Obj], count: int) -> list[Obj]:
    """Return the ``count`` virtual machines that the scale-in strategy has removed first."""
    policy = nested(pool, "spec", "scaleInStrategy", "proactive", "selectionPolicy")
    return selected(ordered(vms, policy), policy)[:count]


def ordered(vms: Sequence[Obj], policy: Obj) -> list[Obj]:
    """Return the virtual machines in the policy's order; random if it names none."""
    match policy.get("sortPolicy"):
        case SortPolicy.ASCENDING:
            return sorted(vms, key=_index)
        case SortPolicy.DESCENDING:
            return sorted(vms, key=_index, reverse=True)
        case SortPolicy.NEWEST:
            return sorted(vms, key=_made, reverse=True)
        case SortPolicy.OLDEST:
            return sorted(vms, key=_made)
    return random.sample(list(vms), len(vms))


def selected(vms: Sequence[Obj], policy: Obj) -> list[Obj]:
    """Return the virtual machines that the policy's selectors match; all of them without selectors."""
    wanted = policy.get("selectors") or {}
    labels, nodes = wanted.get("labelSelector"), wanted.get("nodeSelectorRequirementMatcher")
    return [
        vm
        for vm in vms
        if (labels is None or selectors.matches(labels, nested(vm, "spec", "template", "metadata").get("labels")))
        and (nodes is None or all(_node_matches(one, vm) for one in nodes))
    ]


def failing(pool: Obj, vms: Sequence[Obj], at: datetime) -> tuple[list[Obj], float | None]:
    """Return the virtual machines that autohealing replaces, and the seconds until the next may become one."""
    healing = pool["spec"].get("autohealing")
    if healing is None:
        return [], None
    threshold = int(healing.get("startUpFailureThreshold") or START_FAILURES)
    patience = healing.get("minFailingToStartDuration")
    longest = timedelta(seconds=FAILING_SECONDS if patience is None else seconds_of(str(patience)))
    found: list[Obj] = []
    waits: list[float] = []
    for vm in vms:
        status = read_status(vm)
        failures = nested(status, "startFailure").get("consecutiveFailCount") or 0
        ready = condition(vm, VmCondition.READY) or {}
        if failures >= threshold:
            found.append(vm)
        elif status.get("printableStatus") in _TROUBLES and ready.get("status") == ConditionStatus.FALSE:
            since = moment(ready.get("lastTransitionTime")) or moment(vm["metadata"]["creationTimestamp"]) or at
            left = (since + longest - at).total_seconds()
            if left <= 0:
                found.append(vm)
            else:
                waits.append(left)
    return found, min(waits, default=None)


def may_be_unavailable(pool: Obj) -> int:
    """Return how many virtual machines may be not ready during an update; at least one."""
    wanted, most = pool["spec"].get("replicas"), pool["spec"].get("maxUnavailable")
    total = 1 if wanted is None else int(wanted)
    if most is None:
        return max(1, total)
    text = str(most)
    return max(1, total * int(text[:-1]) // 100 if text.endswith("%") else int(text))


def _index(vm: Obj) -> int:
    return index_of(vm["metadata"]["name"]) or 0


def _made(vm: Obj) -> tuple[str, int]:
    return vm["metadata"]["creationTimestamp"], _index(vm)


def _node_matches(requirement: Obj, vm: Obj) -> bool:
    """Whether a requirement on node labels holds of the node selector in the virtual machine's template."""
    labels = nested(vm, "spec", "template", "spec").get("nodeSelector") or {}
    operator, key, values = requirement.get("operator"), requirement.get("key"), requirement.get("values") or []
    if operator in ("Gt", "Lt"):
        try:
            found, limit = int(labels[key]), int(values[0])
        except (KeyError, IndexError, ValueError):
            return False
        return found > limit if operator == "Gt" else found < limit
    return selectors.matches({"matchExpressions": [requirement]}, labels)
