"""The status of the KubeVirt object: what tells a client that the cluster is ready for machines.

There is nothing to roll out here, because the components are already running when this does; so the object is Deployed
as soon as it is seen, and ``observedGeneration`` follows its configuration, which takes effect at once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from polyvisor import __version__
from polyvisor.api.names import ConditionStatus, KubeVirtCondition, KubeVirtPhase, Reason
from polyvisor.api.resources import KUBEVIRTS
from polyvisor.controllers.objects import deleting, now, set_condition
from polyvisor.kube import Controller, Informer, KubeClient, WorkQueue, key_of

if TYPE_CHECKING:
    from polyvisor.api import Obj

Key = tuple[str, str]


class KubeVirtController:
    """Reconciles the status of KubeVirt objects."""

    def __init__(self, client: KubeClient, *, kubevirts: Informer, clock: Callable[[], datetime] = now) -> None:
        self._client = client
        self._kubevirts = kubevirts
        self._clock = clock
        self.queue: WorkQueue[Key] = WorkQueue()
        self._controller = Controller("virt-controller-kubevirt", self.queue, self.reconcile, 1)
        kubevirts.on_change(lambda old, new: self.queue.add(key_of(new or old or {})))

    async def run(self) -> None:
        """Work until cancelled."""
        await self._controller.run()

    async def reconcile(self, key: Key) -> None:
        """Write the status of one object if it is not what it has to be."""
        found = self._kubevirts.get(*key)
        if found is None or deleting(found):
            return
        status = ready_status(found, self._clock())
        if status != found.get("status"):
            await self._client.update_status(KUBEVIRTS, found | {"status": status})


def ready_status(kubevirt: Obj, at: datetime) -> Obj:
    """Return the status of a KubeVirt object whose components all run."""
    status: Obj = copy.deepcopy(kubevirt.get("status") or {})
    version = f"v{__version__}"
    status["phase"] = str(KubeVirtPhase.DEPLOYED)
    for field in ("operatorVersion", "targetKubeVirtVersion", "observedKubeVirtVersion"):
        status[field] = version
    status["generations"] = status.get("generations") or []
    if kubevirt["metadata"].get("generation"):
        status["observedGeneration"] = kubevirt["metadata"]["generation"]
    said = (
        (KubeVirtCondition.CREATED, ConditionStatus.TRUE, "All resources were created."),
        (KubeVirtCondition.AVAILABLE, ConditionStatus.TRUE, "All components are ready."),
        (KubeVirtCondition.PROGRESSING, ConditionStatus.FALSE, "All components are ready."),
        (KubeVirtCondition.DEGRADED, ConditionStatus.FALSE, "All components are ready."),
    )
    for kind, value, message in said:
        set_condition(status, kind, value, Reason.ALL_COMPONENTS_READY, message, at=at)
    return status
