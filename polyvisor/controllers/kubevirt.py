"""The status of the KubeVirt object: what tells a client that the cluster is ready for machines.

There is nothing to roll out here: ``observedGeneration`` follows the configuration, which takes effect at once. In one
process the components are there when this is; in a cluster virt-operator says which of them lack Pods. What else is
wrong with the installation stands in Degraded too, while Available stays true, because the rest works all the same.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
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
MAX_MESSAGE = 4096


class KubeVirtController:
    """Reconciles the status of KubeVirt objects."""

    def __init__(
        self,
        client: KubeClient,
        *,
        kubevirts: Informer,
        clock: Callable[[], datetime] = now,
        lacking: Callable[[], list[str]] = list,
        problems: Callable[[Obj], list[str]] = lambda _: [],
    ) -> None:
        """``lacking`` says in words what the components lack, ``problems`` what is wrong with an installation.

        Call :meth:`look` when that may have changed.
        """
        self._client = client
        self._kubevirts = kubevirts
        self._lacking = lacking
        self._problems = problems
        self._clock = clock
        self.queue: WorkQueue[Key] = WorkQueue()
        self._controller = Controller("virt-controller-kubevirt", self.queue, self.reconcile, 1)
        kubevirts.on_change(lambda old, new: self.queue.add(key_of(new or old or {})))

    def look(self) -> None:
        """Look at every object soon."""
        for found in self._kubevirts.items():
            self.queue.add(key_of(found))

    async def run(self) -> None:
        """Work until cancelled."""
        await self._controller.run()

    async def reconcile(self, key: Key) -> None:
        """Write the status of one object if it is not what it has to be."""
        found = self._kubevirts.get(*key)
        if found is None or deleting(found):
            return
        status = status_of(found, self._clock(), self._lacking(), self._problems(found))
        if status != found.get("status"):
            await self._client.update_status(KUBEVIRTS, found | {"status": status})


def status_of(kubevirt: Obj, at: datetime, lacking: list[str], problems: Sequence[str] = ()) -> Obj:
    """Return the status of a KubeVirt object whose components lack, and whose installation has, what the words say."""
    status: Obj = copy.deepcopy(kubevirt.get("status") or {})
    version = f"v{__version__}"
    for field in ("operatorVersion", "targetKubeVirtVersion"):
        status[field] = version
    status["generations"] = status.get("generations") or []
    if kubevirt["metadata"].get("generation"):
        status["observedGeneration"] = kubevirt["metadata"]["generation"]
    set_condition(
        status,
        KubeVirtCondition.CREATED,
        ConditionStatus.TRUE,
        Reason.ALL_RESOURCES_CREATED,
        "All resources were created.",
        at=at,
    )
    if lacking:
        reason, message = Reason.DEPLOYMENT_IN_PROGRESS, "; ".join(lacking)
        status["phase"] = status.get("phase") or str(KubeVirtPhase.DEPLOYING)
    else:
        reason, message = Reason.ALL_COMPONENTS_READY, "All components are ready."
        status["phase"] = str(KubeVirtPhase.DEPLOYED)
        status["observedKubeVirtVersion"] = version
    said = (
        (KubeVirtCondition.AVAILABLE, not lacking),
        (KubeVirtCondition.PROGRESSING, bool(lacking)),
    )
    for kind, holds in said:
        value = ConditionStatus.TRUE if holds else ConditionStatus.FALSE
        set_condition(status, kind, value, reason, message, at=at)
    if problems:
        reason, message = Reason.WRONG_INSTALLATION, "; ".join([*problems, *lacking])[:MAX_MESSAGE]
    degraded = ConditionStatus.TRUE if problems or lacking else ConditionStatus.FALSE
    set_condition(status, KubeVirtCondition.DEGRADED, degraded, reason, message, at=at)
    return status
