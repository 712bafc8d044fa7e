"""Names of a VirtualMachinePool that its controller and admission share; KubeVirt's."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

FINALIZER: Final = "pool.kubevirt.io/finalizer"
"""On a pool and on each of its virtual machines, whose claims may have to outlive them."""
REVISION_LABEL: Final = "kubevirt.io/vm-pool-revision-name"
"""On a virtual machine, its template and its instance: the revision of the pool that they were made from."""
POOL_LABEL: Final = "pool.kubevirt.io/uid"
"""On a ControllerRevision: the pool that it is a revision of."""


class PoolReason(StrEnum):
    """Reasons of a pool's conditions and Events."""

    SCALE_OUT = "FailedScaleOut"
    SCALE_IN = "FailedScaleIn"
    UPDATE = "FailedUpdate"
    PAUSED = "SuccessfulPaused"
    RESUMED = "SuccessfulResume"


class SortPolicy(StrEnum):
    """Which virtual machines come first when some are to be removed or updated."""

    ASCENDING = "AscendingOrder"
    DESCENDING = "DescendingOrder"
    NEWEST = "Newest"
    OLDEST = "Oldest"
    RANDOM = "Random"


class StatePreservation(StrEnum):
    """Whether the claims of a removed virtual machine stay for the next one with its index."""

    DISABLED = "Disabled"
    OFFLINE = "Offline"
    ONLINE = "Online"
