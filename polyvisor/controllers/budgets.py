"""A PodDisruptionBudget for each machine that no drain may simply end, so that an eviction of its Pod is refused.

The eviction webhook says why; the budget holds when the webhook cannot be asked. It allows no disruption at all and
goes with the machine, or as soon as the strategy that holds for it no longer wants it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from polyvisor.api import names
from polyvisor.api.cluster_resources import DISRUPTION_BUDGETS
from polyvisor.api.names import FINAL_PHASES, EventType, EvictionStrategy, Reason, VmiCondition
from polyvisor.api.owners import controller_of
from polyvisor.api.reading import nested
from polyvisor.api.resources import VMIS
from polyvisor.controllers.objects import (
    condition_is,
    deleting,
    owned_by,
    owner_reference,
    phase_of,
    uid,
)
from polyvisor.kube import ApiError, Controller, EventRecorder, Informer, KubeClient, WorkQueue, key_of

if TYPE_CHECKING:
    from polyvisor.api import Obj

Key = tuple[str, str]
PREFIX = "kubevirt-disruption-budget-"
OWNER_INDEX = "owner"


class BudgetController:
    """Reconciles the budget of one machine at a time; the informers are shared and are run by the owner."""

    def __init__(
        self, client: KubeClient, recorder: EventRecorder, *, vmis: Informer, budgets: Informer, kubevirts: Informer
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._vmis, self._budgets, self._kubevirts = vmis, budgets, kubevirts
        self.queue: WorkQueue[Key] = WorkQueue()
        self._controller = Controller("virt-controller-budget", self.queue, self.reconcile, 1)
        budgets.add_index(OWNER_INDEX, _owner_uids)
        vmis.on_change(lambda old, new: self.queue.add(key_of(new or old or {})))
        budgets.on_change(self._budget_changed)
        kubevirts.on_change(self._configuration_changed)

    async def run(self) -> None:
        """Work until cancelled, once the budgets are known; nothing else waits for that."""
        await self._budgets.synced()
        await self._controller.run()

    async def reconcile(self, key: Key) -> None:
        """Bring one machine's budget in line; those of machines that are gone are collected by their owner."""
        vmi = self._vmis.get(*key)
        if vmi is None:
            return
        there = [budget for budget in self._budgets.by_index(OWNER_INDEX, uid(vmi)) if owned_by(budget, vmi)]
        if wants_budget(vmi, self._strategy()):
            if not there:
                await self._make(vmi)
            return
        for budget in there:
            await self._remove(vmi, budget)

    def _strategy(self) -> str:
        found = sorted(self._kubevirts.items(), key=lambda k: str(k["metadata"].get("creationTimestamp")))
        configuration = nested(found[0], "spec").get("configuration") or {} if found else {}
        return str(configuration.get("evictionStrategy") or "")

    async def _make(self, vmi: Obj) -> None:
        budget = budget_of(vmi)
        name = budget["metadata"]["name"]
        try:
            await self._client.create(DISRUPTION_BUDGETS, budget)
        except ApiError as error:
            if not error.already_exists:
                what = f"Error creating the PodDisruptionBudget {name}: {error}"
                self._recorder.event(vmi, EventType.WARNING, Reason.FAILED_CREATE, what)
                raise
        else:
            self._recorder.event(vmi, EventType.NORMAL, Reason.SUCCESSFUL_CREATE, f"Created PodDisruptionBudget {name}")

    async def _remove(self, vmi: Obj, budget: Obj) -> None:
        name, namespace = budget["metadata"]["name"], budget["metadata"]["namespace"]
        if deleting(budget):
            return
        try:
            await self._client.delete(DISRUPTION_BUDGETS, name, namespace, uid=uid(budget))
        except ApiError as error:
            if not error.not_found:
                raise
        else:
            self._recorder.event(vmi, EventType.NORMAL, Reason.SUCCESSFUL_DELETE, f"Deleted PodDisruptionBudget {name}")

    def _configuration_changed(self, old: Obj | None, new: Obj | None) -> None:
        if old is None or new is None or old.get("spec") != new.get("spec"):
            for vmi in self._vmis.items():
                self.queue.add(key_of(vmi))

    def _budget_changed(self, old: Obj | None, new: Obj | None) -> None:
        budget = new or old or {}
        owner = controller_of(budget)
        if owner is not None and owner.get("kind") == VMIS.kind:
            self.queue.add((budget["metadata"]["namespace"], owner["name"]))


def wants_budget(vmi: Obj, configured: str) -> bool:
    """Whether a drain must not simply end a machine; ``configured`` is the strategy where the machine names none."""
    if deleting(vmi) or phase_of(vmi) in FINAL_PHASES:
        return False
    strategy = vmi["spec"].get("evictionStrategy") or configured
    if not strategy:  # where the guest cannot be moved, a drain has to be told to shut it down
        return bool(nested(vmi, "spec", "hypervisor").get("endpoint"))
    if strategy == EvictionStrategy.LIVE_MIGRATE_IF_POSSIBLE:
        return condition_is(vmi, VmiCondition.LIVE_MIGRATABLE)
    return strategy in (EvictionStrategy.LIVE_MIGRATE, EvictionStrategy.EXTERNAL)


def budget_of(vmi: Obj) -> Obj:
    """Return the budget of a machine."""
    digest = hashlib.sha256(uid(vmi).encode()).hexdigest()[:10]
    return {
        "apiVersion": DISRUPTION_BUDGETS.api_version,
        "kind": DISRUPTION_BUDGETS.kind,
        "metadata": {
            "name": f"{PREFIX}{digest}",
            "namespace": vmi["metadata"]["namespace"],
            "labels": {names.CREATED_BY_LABEL: uid(vmi)},
            "ownerReferences": [owner_reference(vmi, VMIS)],
        },
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {names.CREATED_BY_LABEL: uid(vmi)}}},
    }


def _owner_uids(budget: Obj) -> list[str]:
    owner = controller_of(budget)
    return [owner["uid"]] if owner else []
