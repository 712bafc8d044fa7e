"""How a change of a pool's template reaches its virtual machines, and their instances.

The virtual machines always get the new template. Opportunistically that is all: an instance changes when it is next
started. Proactively the instances are ended (their virtual machine starts them again), as many at a time as may be
unavailable; one that is not ready anyway does not wait. What isn't obvious: two revisions may hold the same template,
because each change of the pool, its scale included, makes one; then the instance only gets the new revision's name.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING

from polyvisor.api.names import EventType, Phase, Reason, VmCondition, VmiCondition
from polyvisor.api.pools import REVISION_LABEL
from polyvisor.api.reading import labels_of, nested
from polyvisor.api.resources import VMIS, VMS
from polyvisor.controllers.objects import condition_is, deleting, phase_of, uid
from polyvisor.controllers.pools import revisions as kept
from polyvisor.controllers.pools.selection import may_be_unavailable, ordered, selected
from polyvisor.controllers.pools.template import revision_name, updated
from polyvisor.kube import ApiError, EventRecorder, KubeClient

if TYPE_CHECKING:
    from polyvisor.api import Obj


class Change(Enum):
    """What an instance needs to follow its virtual machine."""

    NOTHING = auto()
    LABEL = auto()
    RESTART = auto()
    REPLACE = auto()
    """Its DataVolumes differ, so the virtual machine is made anew."""


def change_of(vm: Obj, vmi: Obj, revisions: kept.Revisions) -> Change:
    """Return what an instance needs, by the revisions that its virtual machine and itself were made from."""
    wanted, present = labels_of(vm).get(REVISION_LABEL), labels_of(vmi).get(REVISION_LABEL)
    new = revisions.get(wanted or "")
    if wanted == present or new is None:
        return Change.NOTHING
    old = revisions.get(present or "")
    if old is None:
        return Change.RESTART
    before, after = nested(old, "virtualMachineTemplate", "spec"), nested(new, "virtualMachineTemplate", "spec")
    if before.get("dataVolumeTemplates") != after.get("dataVolumeTemplates"):
        return Change.REPLACE
    return Change.RESTART if before.get("template") != after.get("template") else Change.LABEL


def outdated(pool: Obj, vm: Obj, revisions: kept.Revisions) -> bool:
    """Whether a virtual machine was made from another template than the pool's present one."""
    name = labels_of(vm).get(REVISION_LABEL)
    made_from = revisions.get(name or "")
    return made_from is None or made_from["virtualMachineTemplate"] != pool["spec"]["virtualMachineTemplate"]


class Updater:
    """Brings a pool's virtual machines up to date."""

    def __init__(self, client: KubeClient, recorder: EventRecorder) -> None:
        self._client, self._recorder = client, recorder
        self._settled: dict[str, str] = {}

    def forget(self, pool_uid: str) -> None:
        """The pool is gone."""
        self._settled.pop(pool_uid, None)

    async def update(self, pool: Obj, vms: Sequence[Obj], vmis: Mapping[str, Obj]) -> None:
        """Take the next step with the virtual machines (none of them being deleted) and their instances by name."""
        strategy = pool["spec"].get("updateStrategy") or {}
        if strategy.get("unmanaged") is not None or self._is_settled(pool, vms, vmis):
            return
        revisions = await kept.read(self._client, pool)
        policy = nested(strategy, "proactive", "selectionPolicy")
        chosen = selected(vms, policy)
        old = [vm for vm in chosen if outdated(pool, vm, revisions)]
        for vm in old:
            await self._renew(pool, vm)
        if strategy.get("opportunistic") is None:
            current = [vm for vm in chosen if vm not in old]
            await self._follow(pool, ordered(current, policy), vmis, revisions, vms)
        if not old:
            used = [labels_of(one).get(REVISION_LABEL, "") for one in (*vms, *vmis.values())]
            await kept.prune(self._client, pool, revisions, used)
            if set(used) <= {revision_name(pool)}:
                self._settled[uid(pool)] = revision_name(pool)

    def _is_settled(self, pool: Obj, vms: Sequence[Obj], vmis: Mapping[str, Obj]) -> bool:
        """Whether this generation was seen through, and all that is there was made from it."""
        name = revision_name(pool)
        made = all(labels_of(one).get(REVISION_LABEL) == name for one in (*vms, *vmis.values()))
        return made and self._settled.get(uid(pool)) == name

    async def _renew(self, pool: Obj, vm: Obj) -> None:
        namespace, name = vm["metadata"]["namespace"], vm["metadata"]["name"]
        try:
            await self._client.update(VMS, updated(pool, vm))
        except ApiError as error:
            if not error.conflict:
                what = f"Error updating virtual machine {namespace}/{name}: {error}"
                self._recorder.event(pool, EventType.WARNING, Reason.FAILED_UPDATE, what)
            raise
        self._recorder.event(pool, EventType.NORMAL, Reason.SUCCESSFUL_UPDATE, f"Updated VM {namespace}/{name}")

    async def _follow(
        self, pool: Obj, current: Sequence[Obj], vmis: Mapping[str, Obj], revisions: kept.Revisions, vms: Sequence[Obj]
    ) -> None:
        """Bring instances up to their virtual machines: those that are not ready at once, others a few at a time."""
        unavailable = sum(not _available(vmis.get(vm["metadata"]["name"])) for vm in vms)
        for vm in current:
            vmi = vmis.get(vm["metadata"]["name"])
            if vmi is None or deleting(vmi):
                continue
            change = change_of(vm, vmi, revisions)
            if change is Change.NOTHING:
                continue
            costs = change is not Change.LABEL and condition_is(vm, VmCondition.READY)
            if costs and unavailable >= may_be_unavailable(pool):
                continue
            unavailable += costs
            await self._change(pool, vm, vmi, change)

    async def _change(self, pool: Obj, vm: Obj, vmi: Obj, change: Change) -> None:
        namespace, name = vm["metadata"]["namespace"], vm["metadata"]["name"]
        try:
            if change is Change.RESTART:
                await self._client.delete(VMIS, name, namespace, uid=uid(vmi))
            elif change is Change.REPLACE:
                await self._client.delete(VMS, name, namespace, uid=uid(vm), propagation_policy="Foreground")
            else:
                labelled = copy.deepcopy(vmi)
                labelled["metadata"].setdefault("labels", {})[REVISION_LABEL] = labels_of(vm)[REVISION_LABEL]
                await self._client.update(VMIS, labelled)
        except ApiError as error:
            if error.not_found or error.conflict:
                return
            what = f"Error updating resource {namespace}/{name}: {error}"
            self._recorder.event(pool, EventType.WARNING, Reason.FAILED_UPDATE, what)
            raise
        what = f"Successfully updated resource {namespace}/{name}"
        self._recorder.event(pool, EventType.NORMAL, Reason.SUCCESSFUL_DELETE, what)


def _available(vmi: Obj | None) -> bool:
    ready = vmi is not None and phase_of(vmi) == Phase.RUNNING and condition_is(vmi, VmiCondition.READY)
    return ready and vmi is not None and not deleting(vmi)
