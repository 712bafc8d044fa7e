"""Names of clones that the controller and admission share, KubeVirt's, and which keys a filter lets through."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum


class ClonePhase(StrEnum):
    """Phases of a VirtualMachineClone."""

    SNAPSHOT = "SnapshotInProgress"
    RESTORE = "RestoreInProgress"
    TARGET = "CreatingTargetVM"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class CloneReason(StrEnum):
    """Reasons of a clone's Events."""

    SNAPSHOT_CREATED = "SnapshotCreated"
    SNAPSHOT_READY = "SnapshotReady"
    RESTORE_CREATED = "RestoreCreated"
    RESTORE_READY = "RestoreReady"
    TARGET_CREATED = "TargetVMCreated"
    PVC_BOUND = "PVCBound"
    NO_SOURCE = "SourceDoesNotExist"
    FAILED = "CloneFailed"


def left_out(keys: Iterable[str], filters: Sequence[str] | None) -> list[str]:
    """Return the keys that filters leave out: a name, a name's beginning with ``*``, or ``!`` before either.

    Without filters nothing is left out. What is negated stays out whatever else lets it in.
    """
    if filters is None:
        return []
    wanted = [one for one in filters if not one.startswith("!")]
    unwanted = [one[1:] for one in filters if one.startswith("!")]
    return [
        key
        for key in keys
        if not any(_matches(one, key) for one in wanted) or any(_matches(one, key) for one in unwanted)
    ]


def _matches(one: str, key: str) -> bool:
    return key.startswith(one[:-1]) if one.endswith("*") else key == one
