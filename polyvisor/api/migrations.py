"""Live migration by KubeVirt's names: labels, phases, conditions, and questions about an instance that moves.

What isn't obvious: ``status.migrationState`` of the instance is what both nodes act on. Its source's agent alone writes
``completed`` or ``failed``, and that write decides on which side the guest goes on.
"""

from __future__ import annotations

from enum import StrEnum

from polyvisor.api.base import Obj
from polyvisor.api.names import FINAL_PHASES
from polyvisor.api.reading import annotations_of, labels_of, nested, read_status

HANDLER_CLIENT_SECRET = "kubevirt-virt-handler-certs"
HANDLER_CLIENT_NAME = "kubevirt.io:system:client:virt-handler"
"""The name by which a node's agent knows another node's."""
FINALIZER = "kubevirt.io/migrationJobFinalize"
JOB_LABEL = "kubevirt.io/migrationJobUID"
"""On a launcher Pod: the uid of the migration that it was made for."""
JOB_ANNOTATION = "kubevirt.io/migrationJobName"
TARGET_NODE_LABEL = "kubevirt.io/migrationTargetNodeName"
EVACUATION_ANNOTATION = "kubevirt.io/evacuationMigration"
EVACUATION_PREFIX = "kubevirt-evacuation-"
USER_PREFIX = "kubevirt-migrate-vm-"
PENDING_SECONDS_ANNOTATION = "kubevirt.io/migrationPendingPodTimeoutSeconds"
UNSCHEDULABLE_SECONDS_ANNOTATION = "kubevirt.io/migrationUnschedulablePodTimeoutSeconds"


class MigrationPhase(StrEnum):
    """Phases of a VirtualMachineInstanceMigration."""

    PENDING = "Pending"
    SCHEDULING = "Scheduling"
    SCHEDULED = "Scheduled"
    PREPARING_TARGET = "PreparingTarget"
    TARGET_READY = "TargetReady"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class MigrationCondition(StrEnum):
    """Condition types of a VirtualMachineInstanceMigration."""

    ABORT_REQUESTED = "migrationAbortRequested"
    REJECTED_BY_QUOTA = "migrationRejectedByResourceQuota"


class Blocked(StrEnum):
    """Reasons of ``LiveMigratable=False``, beside ``NotMigratable``."""

    DISKS = "DisksNotLiveMigratable"
    INTERFACE = "InterfaceNotLiveMigratable"
    HOTPLUG = "HotplugNotLiveMigratable"
    HOST_DEVICE = "HostDeviceNotLiveMigratable"
    SHARES = "VirtIOFSNotLiveMigratable"
    ENCRYPTED = "SEVNotLiveMigratable"
    PASSTHROUGH = "HypervPassthroughNotLiveMigratable"
    RESERVATION = "PersistentReservationNotLiveMigratable"


PASSTHROUGH = "hypervPassthrough"
"""The field below ``domain.features`` by which a guest sees all of its host's enlightenments."""
USES_PASSTHROUGH = "VMI uses hyperv passthrough"
OVER = (MigrationPhase.SUCCEEDED, MigrationPhase.FAILED)
ABORTING, ABORTED, ABORT_FAILED = "Aborting", "Succeeded", "Failed"
"""Values of ``migrationState.abortStatus``."""
PRE_COPY = "PreCopy"
LIVE, BLOCK = "LiveMigration", "BlockMigration"
"""Values of ``status.migrationMethod``: with shared disks alone, or with disks that are copied."""


def state_of(vmi: Obj) -> Obj:
    """Return ``status.migrationState``, empty if the instance was never moved."""
    found: Obj = read_status(vmi).get("migrationState") or {}
    return found


def is_committed(vmi: Obj) -> bool:
    """Whether the last migration has ended with the guest on its target."""
    state = state_of(vmi)
    return bool(state.get("completed")) and not state.get("failed")


def is_moving(vmi: Obj) -> bool:
    """Whether an instance is in a migration that has a target and has not ended."""
    state = state_of(vmi)
    return bool(state.get("migrationUid")) and not state.get("completed") and not state.get("failed")


def awaits_hand_over(vmi: Obj) -> bool:
    """Whether an instance's guest is on its target already, and the rest of the status does not say so yet."""
    state = state_of(vmi)
    here = read_status(vmi).get("nodeName") == state.get("sourceNode") != state.get("targetNode")
    return is_committed(vmi) and here


def job_of(pod: Obj) -> str:
    """Return the uid of the migration that a launcher Pod was made for, empty for an instance's first Pod."""
    return str(labels_of(pod).get(JOB_LABEL) or "")


def migration_phase(migration: Obj) -> str:
    """Return the phase of a migration, empty before it has any."""
    return str(read_status(migration).get("phase") or "")


def is_over(migration: Obj) -> bool:
    """Whether a migration has ended."""
    return migration_phase(migration) in OVER


def is_evacuation(migration: Obj) -> bool:
    """Whether a migration was made because a node is drained."""
    return EVACUATION_ANNOTATION in annotations_of(migration)


def vmi_name(migration: Obj) -> str:
    """Return the name of the instance that a migration moves."""
    return str(nested(migration, "spec").get("vmiName") or "")


def runs_in(pod: Obj, vmi: Obj) -> bool:
    """Whether a launcher Pod is the one that the instance's guest is in, of those that it has while it moves."""
    status, uid = read_status(vmi), pod["metadata"]["uid"]
    node, active = status.get("nodeName"), status.get("activePods") or {}
    if job_of(pod):
        return bool(node) and pod["spec"].get("nodeName") == node and active.get(uid) == node
    if uid in active:
        return not node or active[uid] in (node, "")
    return not node or node not in active.values()


def may_move(vmi: Obj) -> bool:
    """Whether an instance is in a phase in which it can be moved."""
    return read_status(vmi).get("phase") not in FINAL_PHASES
