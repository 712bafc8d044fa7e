"""What the migration controller writes, as functions from what is seen to what is written: into a migration, and into
the ``status.migrationState`` of the instance, by which both nodes learn of it.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from polyvisor.api import names
from polyvisor.api.migrations import (
    TARGET_NODE_LABEL,
    MigrationCondition,
    MigrationPhase,
    is_over,
    migration_phase,
    state_of,
)
from polyvisor.api.names import ConditionStatus
from polyvisor.api.reading import nested, read_status
from polyvisor.controllers.objects import drop_condition, set_condition, set_phase, stamp, uid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from polyvisor.api import Obj

PER_CLUSTER, PER_NODE = 5, 2
PENDING_SECONDS, UNSCHEDULABLE_SECONDS = 900.0, 300.0
"""How long a target's Pod may be pending at all, or because no node has room for it."""
CONFIGURED = {
    "allowAutoConverge": False,
    "bandwidthPerMigration": "0",
    "completionTimeoutPerGiB": 150,
    "parallelMigrationsPerCluster": PER_CLUSTER,
    "parallelOutboundMigrationsPerNode": PER_NODE,
    "progressTimeout": 150,
}
"""Settings of a migration, and what holds where the KubeVirt object gives none."""
REASON_QUOTA = "TargetPodRejectedByQuota"


def settings(config: Obj) -> Obj:
    """Return the settings of migrations: the KubeVirt object's, and the defaults for those that it lacks."""
    given = {key: value for key, value in (config.get("migrations") or {}).items() if value is not None}
    kept = {**CONFIGURED, **({"maxDowntimeMs": 300} if "maxDowntimeMs" in given else {})}
    return {key: given.get(key, default) for key, default in kept.items()}


def enter(migration: Obj, phase: MigrationPhase, at: datetime) -> None:
    """Enter a phase, in place."""
    set_phase(migration.setdefault("status", {}), phase, at)


def follow(migration: Obj, vmi: Obj, at: datetime) -> None:
    """Bring a migration's phase in line with the instance's state, in place, phase by phase; keep a copy of that."""
    state = state_of(vmi)
    if state.get("migrationUid") != uid(migration) or is_over(migration):
        return
    migration.setdefault("status", {})["migrationState"] = state
    if state.get("failed"):
        enter(migration, MigrationPhase.FAILED, at)
        return
    there = [MigrationPhase.PREPARING_TARGET]
    if state.get("targetNodeAddress"):
        there.append(MigrationPhase.TARGET_READY)
    if state.get("startTimestamp"):
        there.append(MigrationPhase.RUNNING)
    if state.get("completed") and read_status(vmi).get("nodeName") == state.get("targetNode"):
        there.append(MigrationPhase.SUCCEEDED)
    order = list(MigrationPhase)
    for phase in there:
        if order.index(phase) > order.index(MigrationPhase(migration_phase(migration) or MigrationPhase.PENDING)):
            enter(migration, phase, at)


def rejected(migration: Obj, message: str, at: datetime) -> None:
    """Say, in place, that the namespace's quota has no room for the target's Pod; take it back if it has."""
    status = migration.setdefault("status", {})
    if not message:
        drop_condition(status, MigrationCondition.REJECTED_BY_QUOTA)
        return
    set_condition(status, MigrationCondition.REJECTED_BY_QUOTA, ConditionStatus.TRUE, REASON_QUOTA, message, at=at)


def aborting(migration: Obj, at: datetime) -> None:
    """Say, in place, that the migration is to be given up."""
    status = migration.setdefault("status", {})
    if not any(one.get("type") == MigrationCondition.ABORT_REQUESTED for one in status.get("conditions") or []):
        set_condition(status, MigrationCondition.ABORT_REQUESTED, ConditionStatus.TRUE, at=at)


def hand_to_nodes(vmi: Obj, pod: Obj, migration: Obj, source_pod: str, config: Obj) -> None:
    """Tell both nodes' agents of the migration, in place."""
    status = vmi.setdefault("status", {})
    node = pod["spec"]["nodeName"]
    source = {"node": status.get("nodeName"), "pod": source_pod}
    target = {"node": node, "pod": pod["metadata"]["name"]}
    whose = {
        "migrationUID": uid(migration),
        "virtualMachineInstanceUID": uid(vmi),
        "domainNamespace": vmi["metadata"]["namespace"],
    }
    status["migrationState"] = {
        "migrationUid": uid(migration),
        "sourceNode": source["node"],
        "sourcePod": source["pod"],
        "targetNode": node,
        "targetPod": target["pod"],
        "migrationConfiguration": settings(config),
        "sourceState": {**source, **whose},
        "targetState": {**target, **whose},
    }
    status.setdefault("activePods", {})[uid(pod)] = node
    vmi["metadata"].setdefault("labels", {})[TARGET_NODE_LABEL] = node


def give_up(vmi: Obj, reason: str, at: datetime) -> None:
    """Say, in place, that the migration has failed. The guest goes on where it is."""
    state = vmi["status"]["migrationState"]
    state |= {"completed": True, "failed": True, "failureReason": reason, "endTimestamp": stamp(at)}


def let_go(vmi: Obj, pod_uids: Iterable[str]) -> None:
    """Forget the target's Pods of a migration that failed, in place."""
    active = read_status(vmi).get("activePods") or {}
    for one in pod_uids:
        active.pop(one, None)
    vmi["metadata"].get("labels", {}).pop(TARGET_NODE_LABEL, None)


def hand_over(vmi: Obj, pod: Obj, at: datetime) -> None:
    """Make the target's node and Pod those of an instance that has moved, in place."""
    status, node = vmi["status"], pod["spec"]["nodeName"]
    source = status.get("nodeName")
    status["nodeName"] = node
    status.setdefault("activePods", {})[uid(pod)] = node  # the source's Pod goes from there once it has ended
    status["launcherContainerImageVersion"] = pod["spec"]["containers"][0].get("image") or ""
    if status.get("evacuationNodeName") == source:
        status.pop("evacuationNodeName")
    state = status["migrationState"]
    state["targetNodeDomainDetected"] = True
    state.setdefault("targetNodeDomainReadyTimestamp", stamp(at))
    nested(state, "targetState").update(
        {"domainDetected": True, "domainReadyTimestamp": state["targetNodeDomainReadyTimestamp"]}
    )
    labels = vmi["metadata"].setdefault("labels", {})
    labels[names.NODE_NAME_LABEL] = node
    labels.pop(TARGET_NODE_LABEL, None)


def positive(value: object, default: int) -> int:
    """Return a number of a configuration."""
    return value if isinstance(value, int) and value > 0 else default
