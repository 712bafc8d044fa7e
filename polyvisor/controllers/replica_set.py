"""The replica set controller: keeps as many instances as a VirtualMachineInstanceReplicaSet asks for.

Instances have names of their own drawing, so nothing but looking keeps it from making too many: before it makes or
deletes any, the instances are read from the API server itself, since the local copy may be behind. An instance that is
over counts no more and is deleted, and another takes its place.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from polyvisor.api import names, selectors
from polyvisor.api.names import FINAL_PHASES, ConditionStatus, EventType, Reason, ReplicaSetCondition, VmiCondition
from polyvisor.api.owners import controller_of
from polyvisor.api.resources import REPLICA_SETS, VMIS
from polyvisor.controllers.objects import (
    condition,
    condition_is,
    deleting,
    drop_condition,
    now,
    owned_by,
    owner_reference,
    phase_of,
    set_condition,
    uid,
)
from polyvisor.controllers.refusals import Refusals
from polyvisor.kube import ApiError, Controller, EventRecorder, Informer, KubeClient, WorkQueue, key_of
from polyvisor.placement import permission

if TYPE_CHECKING:
    from polyvisor.api import Obj

Key = tuple[str, str]
BURST = 250
"""How many instances are made or deleted at one go."""
ORDER = ("", "Pending", "Scheduling", "Scheduled", "Unknown", "Running")
"""Phases by how little is lost with an instance in them."""


class ReplicaSetController:
    """Reconciles replica sets; the informers are shared and are run by the owner."""

    def __init__(
        self,
        client: KubeClient,
        recorder: EventRecorder,
        *,
        replica_sets: Informer,
        vmis: Informer,
        clock: Callable[[], datetime] = now,
        workers: int = 2,
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._sets, self._vmis = replica_sets, vmis
        self._clock = clock
        self._refusals = Refusals()
        self.queue: WorkQueue[Key] = WorkQueue()
        self._controller = Controller("virt-controller-replicaset", self.queue, self.reconcile, workers)
        replica_sets.on_change(lambda old, new: self.queue.add(key_of(new or old or {})))
        vmis.on_change(self._instance_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._controller.run()

    async def reconcile(self, key: Key) -> float | None:
        """Bring one set a step further; return the seconds after which to look again."""
        replica_set = self._sets.get(*key)
        if replica_set is None or deleting(replica_set):
            self._refusals.forget(key)
            return None
        vmis = await self._own(replica_set, self._vmis.items(key[0]))
        failure: tuple[Reason, str] | None = None
        again: float | None = None
        doomed = any(_over(vmi) and not deleting(vmi) for vmi in vmis)
        if not _paused(replica_set) and (doomed or _difference(replica_set, vmis)):
            vmis = await self._own(replica_set, await self._client.list(VMIS, key[0]))
            vmis, failure, again = await self._scale(replica_set, vmis)
        await self._write_status(replica_set, vmis, failure)
        return again

    async def _own(self, replica_set: Obj, vmis: Sequence[Obj]) -> list[Obj]:
        """Return the set's instances, after taking in those that lack an owner and letting go of those not selected."""
        selector, mine = replica_set["spec"]["selector"], []
        for vmi in vmis:
            selected = selectors.matches(selector, vmi["metadata"].get("labels"))
            if owned_by(vmi, replica_set):
                if selected:
                    mine.append(vmi)
                elif not deleting(vmi):
                    await self._let_go(replica_set, vmi)
            elif selected and controller_of(vmi) is None and not deleting(vmi) and not _over(vmi):
                mine.append(await self._take_in(replica_set, vmi))
        return mine

    async def _take_in(self, replica_set: Obj, vmi: Obj) -> Obj:
        fresh = await self._client.get(REPLICA_SETS, replica_set["metadata"]["name"], vmi["metadata"]["namespace"])
        if uid(fresh) != uid(replica_set) or deleting(fresh):
            raise ApiError(409, "Conflict", "the replica set is another one by now")
        taken = copy.deepcopy(vmi)
        taken["metadata"].setdefault("ownerReferences", []).append(owner_reference(replica_set, REPLICA_SETS))
        return await self._client.update(VMIS, taken)

    async def _let_go(self, replica_set: Obj, vmi: Obj) -> None:
        released = copy.deepcopy(vmi)
        owners = released["metadata"].get("ownerReferences") or []
        released["metadata"]["ownerReferences"] = [one for one in owners if one.get("uid") != uid(replica_set)]
        try:
            await self._client.update(VMIS, released)
        except ApiError as error:
            if not error.not_found:
                raise

    async def _scale(
        self, replica_set: Obj, vmis: list[Obj]
    ) -> tuple[list[Obj], tuple[Reason, str] | None, float | None]:
        """Make and delete what is needed; return the instances after it, what went wrong, and when to try again."""
        key, generation = key_of(replica_set), int(replica_set["metadata"].get("generation") or 0)
        difference = _difference(replica_set, vmis)
        doomed = [vmi for vmi in vmis if _over(vmi) and not deleting(vmi)]
        if difference < 0:
            doomed += sorted((vmi for vmi in vmis if _active(vmi)), key=_worth)[:-difference]
        errors = await _all([self._delete(replica_set, vmi) for vmi in doomed[:BURST]])
        gone = {uid(vmi) for vmi in doomed[:BURST]}
        left = [vmi for vmi in vmis if uid(vmi) not in gone]
        if errors:
            return left, (Reason.FAILED_DELETE, str(errors[0])), self._refusals.note(key, generation, str(errors[0]))
        if difference <= 0:
            self._refusals.forget(key)
            return left, None, None
        if (standing := self._refusals.standing(key, generation)) is not None:
            return left, (Reason.FAILED_CREATE, standing[1]), standing[0]
        made: list[Obj] = []
        error = await self._create(replica_set, min(difference, BURST), made)
        if error is not None:
            return [*left, *made], (Reason.FAILED_CREATE, str(error)), self._refusals.note(key, generation, str(error))
        self._refusals.forget(key)
        return [*left, *made], None, None

    async def _create(self, replica_set: Obj, count: int, made: list[Obj]) -> ApiError | None:
        """Make instances: one first, then twice as many each time, so that what is refused is not asked for often."""
        batch = 1
        while len(made) < count:
            batch = min(batch, count - len(made))
            results = await asyncio.gather(
                *(self._client.create(VMIS, instance_of(replica_set)) for _ in range(batch)), return_exceptions=True
            )
            for result in results:
                if isinstance(result, dict):
                    made.append(result)
                    what = f"Created virtual machine instance {result['metadata']['name']}"
                    self._recorder.event(replica_set, EventType.NORMAL, Reason.SUCCESSFUL_CREATE, what)
                elif not isinstance(result, ApiError):
                    raise result
            failed = [result for result in results if isinstance(result, ApiError)]
            if failed:
                what = f"Error creating virtual machine instance: {failed[0]}"
                self._recorder.event(replica_set, EventType.WARNING, Reason.FAILED_CREATE, what)
                return failed[0]
            batch *= 2
        return None

    async def _delete(self, replica_set: Obj, vmi: Obj) -> None:
        name = vmi["metadata"]["name"]
        try:
            await self._client.delete(VMIS, name, vmi["metadata"]["namespace"], uid=uid(vmi))
        except ApiError as error:
            if error.not_found or error.conflict:
                return
            what = f"Error deleting virtual machine instance {name}: {error}"
            self._recorder.event(replica_set, EventType.WARNING, Reason.FAILED_DELETE, what)
            raise
        what = f"Deleted virtual machine instance {name}"
        self._recorder.event(replica_set, EventType.NORMAL, Reason.SUCCESSFUL_DELETE, what)

    async def _write_status(self, replica_set: Obj, vmis: Sequence[Obj], failure: tuple[Reason, str] | None) -> None:
        before = replica_set.get("status") or {}
        status = status_of(replica_set, vmis, failure, self._clock())
        if status == before:
            return
        self._sets.learn(await self._client.update_status(REPLICA_SETS, replica_set | {"status": status}))
        was = condition_is(replica_set, ReplicaSetCondition.REPLICA_PAUSED)
        if _paused(replica_set) and not was:
            self._recorder.event(replica_set, EventType.NORMAL, Reason.SUCCESSFUL_PAUSED, "Paused")
        elif was and not _paused(replica_set):
            self._recorder.event(replica_set, EventType.NORMAL, Reason.SUCCESSFUL_RESUMED, "Resumed")

    def _instance_changed(self, old: Obj | None, new: Obj | None) -> None:
        owners = {one["name"] for vmi in (old, new) if vmi and (one := _owner(vmi)) is not None}
        namespace = key_of(new or old or {})[0]
        for name in owners:
            self.queue.add((namespace, name))
        if new is not None and controller_of(new) is None:
            for replica_set in self._sets.items(namespace):
                if selectors.matches(replica_set["spec"].get("selector"), new["metadata"].get("labels")):
                    self.queue.add(key_of(replica_set))


def status_of(replica_set: Obj, vmis: Sequence[Obj], failure: tuple[Reason, str] | None, at: datetime) -> Obj:
    """Return the whole status of a set that has these instances. Pure."""
    status: Obj = copy.deepcopy(replica_set.get("status") or {})
    active = [vmi for vmi in vmis if _active(vmi)]
    status["replicas"] = len(active)
    status["readyReplicas"] = sum(condition_is(vmi, VmiCondition.READY) for vmi in active)
    status["labelSelector"] = selectors.to_text(replica_set["spec"].get("selector"))
    if failure is not None:
        set_condition(status, ReplicaSetCondition.REPLICA_FAILURE, ConditionStatus.TRUE, *failure, at=at)
    elif not _paused(replica_set):
        drop_condition(status, ReplicaSetCondition.REPLICA_FAILURE)
    if not _paused(replica_set):
        drop_condition(status, ReplicaSetCondition.REPLICA_PAUSED)
    elif condition({"status": status}, ReplicaSetCondition.REPLICA_PAUSED) is None:
        message = "spec.paused: instances are neither made nor deleted"
        set_condition(status, ReplicaSetCondition.REPLICA_PAUSED, ConditionStatus.TRUE, "Paused", message, at=at)
    return status


def instance_of(replica_set: Obj) -> Obj:
    """Return a new instance as the set's template describes it; the API server draws its name."""
    template = replica_set["spec"]["template"]
    metadata = template.get("metadata") or {}
    made: Obj = {
        "apiVersion": VMIS.api_version,
        "kind": VMIS.kind,
        "metadata": {
            "generateName": metadata.get("generateName") or f"{replica_set['metadata']['name']}-",
            "namespace": replica_set["metadata"]["namespace"],
            "labels": dict(metadata.get("labels") or {}),
            "annotations": dict(metadata.get("annotations") or {}),
            "finalizers": [names.VMI_FINALIZER],
            "ownerReferences": [owner_reference(replica_set, REPLICA_SETS)],
        },
        "spec": copy.deepcopy(template["spec"]),
    }
    permission.hand_on(replica_set, made)
    return made


async def _all(acts: Sequence[Awaitable[None]]) -> list[ApiError]:
    """Do all of it, whatever fails; return what the API server refused."""
    results = await asyncio.gather(*acts, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, ApiError):
            raise result
    return [result for result in results if isinstance(result, ApiError)]


def _paused(replica_set: Obj) -> bool:
    return bool(replica_set["spec"].get("paused"))


def _difference(replica_set: Obj, vmis: Sequence[Obj]) -> int:
    """Return how many instances are missing; below zero, how many there are too many."""
    wanted = replica_set["spec"].get("replicas")
    return (1 if wanted is None else int(wanted)) - sum(_active(vmi) for vmi in vmis)


def _over(vmi: Obj) -> bool:
    """Whether an instance counts no more: it has ended, or is about to because its Pod was deleted."""
    ready = condition(vmi, VmiCondition.READY) or {}
    return phase_of(vmi) in FINAL_PHASES or ready.get("reason") == Reason.POD_TERMINATING


def _active(vmi: Obj) -> bool:
    return not _over(vmi) and not deleting(vmi)


def _worth(vmi: Obj) -> tuple[bool, int, float]:
    """Return what puts the instance first that is deleted first: not ready, then less far on, then younger."""
    phase = phase_of(vmi)
    made = datetime.fromisoformat(vmi["metadata"]["creationTimestamp"]).timestamp()
    return condition_is(vmi, VmiCondition.READY), ORDER.index(phase) if phase in ORDER else 0, -made


def _owner(vmi: Obj) -> Obj | None:
    owner = controller_of(vmi)
    return owner if owner is not None and owner.get("kind") == REPLICA_SETS.kind else None
