"""The pool controller: keeps as many virtual machines as a VirtualMachinePool asks for, of its present template.

Virtual machines have names by index, so the API server itself rules out two of one name; which names are free is read
from the API server before any is made, since the local copy may be behind. A virtual machine carries a finalizer of the
pool's, because its claims may have to outlive it: they are taken from it before it goes.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from polyvisor.api import selectors
from polyvisor.api.names import ConditionStatus, EventType, Reason, ReplicaSetCondition, VmCondition
from polyvisor.api.owners import controller_of
from polyvisor.api.pools import FINALIZER, PoolReason
from polyvisor.api.resources import POOLS, VMIS, VMS
from polyvisor.controllers.objects import (
    add_finalizer,
    condition,
    condition_is,
    deleting,
    drop_condition,
    has_finalizer,
    now,
    owned_by,
    remove_finalizer,
    set_condition,
    uid,
)
from polyvisor.controllers.pools import claims
from polyvisor.controllers.pools.selection import failing, keeps_claims, scales_in, to_remove
from polyvisor.controllers.pools.template import free_names, machine_of
from polyvisor.controllers.pools.update import Updater
from polyvisor.controllers.refusals import Refusals
from polyvisor.kube import ApiError, Controller, EventRecorder, Informer, KubeClient, WorkQueue, key_of

if TYPE_CHECKING:
    from polyvisor.api import Obj

Key = tuple[str, str]
Failure = tuple[PoolReason, str]
BURST = 250
"""How many virtual machines are made or deleted in one step."""
FOREGROUND = "foregroundDeletion"


class PoolController:
    """Reconciles pools; the informers are shared and are run by the owner."""

    def __init__(
        self,
        client: KubeClient,
        recorder: EventRecorder,
        *,
        pools: Informer,
        vms: Informer,
        vmis: Informer,
        clock: Callable[[], datetime] = now,
        workers: int = 2,
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._pools, self._vms = pools, vms
        self._clock = clock
        self._refusals = Refusals()
        self._updater = Updater(client, recorder)
        self.queue: WorkQueue[Key] = WorkQueue()
        self._controller = Controller("virt-controller-pool", self.queue, self.reconcile, workers)
        pools.on_change(lambda old, new: self.queue.add(key_of(new or old or {})))
        vms.on_change(self._machine_changed)
        vmis.on_change(self._instance_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._controller.run()

    async def reconcile(self, key: Key) -> float | None:
        """Bring one pool a step further; return the seconds after which to look again."""
        pool = self._pools.get(*key)
        if pool is None:
            self._refusals.forget(key)
            return None
        if deleting(pool):
            await self._release_all(pool)
            return None
        if not has_finalizer(pool, FINALIZER):
            held = copy.deepcopy(pool)
            add_finalizer(held, FINALIZER)
            pool = await self._client.update(POOLS, held)
            self._pools.learn(pool)
        vms = await self._own(pool, await self._client.list(VMS, key[0]))
        for vm in vms:
            if deleting(vm) and has_finalizer(vm, FINALIZER):
                await self._let_die(pool, vm)
        failure: Failure | None = None
        again: float | None = None
        if not pool["spec"].get("paused"):
            vms, failure, again = await self._work(pool, vms)
        await self._write_status(pool, vms, failure)
        return again

    async def _work(self, pool: Obj, vms: list[Obj]) -> tuple[list[Obj], Failure | None, float | None]:
        """Heal, scale, then update; return the virtual machines after it, what went wrong, and when to look again."""
        doomed, again = failing(pool, [vm for vm in vms if not deleting(vm)], self._clock())
        wanted = pool["spec"].get("replicas")
        difference = (1 if wanted is None else int(wanted)) - len(vms)
        try:
            if doomed:
                await self._remove(pool, doomed)
            elif difference < 0 and scales_in(pool):
                there = [vm for vm in vms if not deleting(vm)]
                excess = -difference - (len(vms) - len(there))
                await self._remove(pool, to_remove(pool, there, min(max(excess, 0), BURST)))
        except ApiError as error:
            return vms, (PoolReason.SCALE_IN, f"error during scale in: {error}"), self._wait(pool, error)
        if difference > 0:
            made, refusal, wait = await self._scale_out(pool, min(difference, BURST))
            if refusal:
                return [*vms, *made], (PoolReason.SCALE_OUT, f"error during scale out: {refusal}"), wait
            return [*vms, *made], None, again
        if difference == 0 or not scales_in(pool):
            try:
                instances = {one["metadata"]["name"]: one for one in await self._instances(pool, vms)}
                await self._updater.update(pool, [vm for vm in vms if not deleting(vm)], instances)
            except ApiError as error:
                if error.conflict:
                    raise
                return vms, (PoolReason.UPDATE, f"error during VM update: {error}"), self._wait(pool, error)
        self._refusals.forget(key_of(pool))
        return vms, None, again

    def _wait(self, pool: Obj, error: ApiError) -> float:
        return self._refusals.note(key_of(pool), int(pool["metadata"].get("generation") or 0), str(error))

    async def _instances(self, pool: Obj, vms: Sequence[Obj]) -> list[Obj]:
        owners = {uid(vm) for vm in vms}
        found = await self._client.list(VMIS, pool["metadata"]["namespace"])
        return [vmi for vmi in found if (owner := controller_of(vmi)) is not None and owner.get("uid") in owners]

    async def _own(self, pool: Obj, vms: Sequence[Obj]) -> list[Obj]:
        """Return the pool's virtual machines, after letting go of those that it does not select any more."""
        mine = []
        for vm in vms:
            if owned_by(vm, pool):
                if deleting(vm) or selectors.matches(pool["spec"]["selector"], vm["metadata"].get("labels")):
                    mine.append(vm)
                else:
                    await self._let_go(pool, vm)
        return mine

    async def _let_go(self, pool: Obj, vm: Obj) -> None:
        released = copy.deepcopy(vm)
        owners = released["metadata"].get("ownerReferences") or []
        released["metadata"]["ownerReferences"] = [one for one in owners if one.get("uid") != uid(pool)]
        remove_finalizer(released, FINALIZER)
        await self._write(released)

    async def _let_die(self, pool: Obj, vm: Obj) -> None:
        """Let a virtual machine go that is being deleted, after keeping its claims if the pool asks for it."""
        if keeps_claims(pool) and not has_finalizer(vm, FOREGROUND):
            await claims.keep(self._client, vm)
        await self._unhold(vm)

    async def _unhold(self, vm: Obj) -> None:
        released = copy.deepcopy(vm)
        remove_finalizer(released, FINALIZER)
        await self._write(released)

    async def _write(self, vm: Obj) -> None:
        try:
            await self._client.update(VMS, vm)
        except ApiError as error:
            if not error.not_found:
                raise

    async def _release_all(self, pool: Obj) -> None:
        """Let the virtual machines go with the pool; without its owner, garbage collection deletes them."""
        if not has_finalizer(pool, FINALIZER):
            return
        for vm in await self._client.list(VMS, pool["metadata"]["namespace"]):
            selected = selectors.matches(pool["spec"]["selector"], vm["metadata"].get("labels"))
            orphaned = controller_of(vm) is None and selected  # by `kubectl delete --cascade=orphan`
            if has_finalizer(vm, FINALIZER) and (owned_by(vm, pool) or orphaned):
                await self._unhold(vm)
        released = copy.deepcopy(pool)
        remove_finalizer(released, FINALIZER)
        self._updater.forget(uid(pool))
        try:
            await self._client.update(POOLS, released)
        except ApiError as error:
            if not error.not_found:
                raise

    async def _remove(self, pool: Obj, vms: Sequence[Obj]) -> None:
        """Delete virtual machines; those whose claims stay are parted from them first."""
        for vm in vms:
            namespace, name = vm["metadata"]["namespace"], vm["metadata"]["name"]
            try:
                if keeps_claims(pool):
                    await claims.keep(self._client, vm)
                await self._client.delete(VMS, name, namespace, uid=uid(vm))
            except ApiError as error:
                if error.not_found or error.conflict:
                    continue
                what = f"Error deleting virtual machine {namespace}/{name}: {error}"
                self._recorder.event(pool, EventType.WARNING, Reason.FAILED_DELETE, what)
                raise
            what = f"Deleted VM {namespace}/{name} with uid {uid(vm)} from pool"
            self._recorder.event(pool, EventType.NORMAL, Reason.SUCCESSFUL_DELETE, what)

    async def _scale_out(self, pool: Obj, count: int) -> tuple[list[Obj], str, float | None]:
        """Make virtual machines: one first, then twice as many each time, so that a refusal is met once."""
        key, generation = key_of(pool), int(pool["metadata"].get("generation") or 0)
        if (standing := self._refusals.standing(key, generation)) is not None:
            return [], standing[1], standing[0]
        taken = [vm["metadata"]["name"] for vm in await self._client.list(VMS, key[0])]
        free = free_names(pool["metadata"]["name"], taken, count)
        made: list[Obj] = []
        batch = 1
        while free:
            now_, free = free[:batch], free[batch:]
            batch *= 2
            results = await asyncio.gather(
                *(self._client.create(VMS, machine_of(pool, name)) for name in now_), return_exceptions=True
            )
            for result in results:
                if isinstance(result, dict):
                    made.append(result)
                    what = f"Created VM {key[0]}/{result['metadata']['name']}"
                    self._recorder.event(pool, EventType.NORMAL, Reason.SUCCESSFUL_CREATE, what)
                elif not isinstance(result, ApiError):
                    raise result
            failed = [one for one in results if isinstance(one, ApiError) and not one.already_exists]
            if failed:
                message = str(failed[0])
                self._recorder.event(pool, EventType.WARNING, Reason.FAILED_CREATE, f"Error creating VM: {message}")
                return made, message, self._refusals.note(key, generation, message)
        self._refusals.forget(key)
        return made, "", None

    async def _write_status(self, pool: Obj, vms: Sequence[Obj], failure: Failure | None) -> None:
        status = status_of(pool, vms, failure, self._clock())
        if status == (pool.get("status") or {}):
            return
        self._pools.learn(await self._client.update_status(POOLS, pool | {"status": status}))
        was, paused = condition_is(pool, ReplicaSetCondition.REPLICA_PAUSED), bool(pool["spec"].get("paused"))
        if failure is not None and not condition_is(pool, ReplicaSetCondition.REPLICA_FAILURE):
            self._recorder.event(pool, EventType.WARNING, *failure)
        if paused and not was:
            self._recorder.event(pool, EventType.NORMAL, PoolReason.PAUSED, "Pool is paused")
        elif was and not paused:
            self._recorder.event(pool, EventType.NORMAL, PoolReason.RESUMED, "Pool is unpaused")

    def _machine_changed(self, old: Obj | None, new: Obj | None) -> None:
        for vm in (old, new):
            owner = controller_of(vm) if vm is not None else None
            if vm is not None and owner is not None and owner.get("kind") == POOLS.kind:
                self.queue.add((vm["metadata"]["namespace"], owner["name"]))

    def _instance_changed(self, old: Obj | None, new: Obj | None) -> None:
        vmi = new or old or {}
        vm = self._vms.get(*key_of(vmi))
        if vm is not None and owned_by(vmi, vm):
            self._machine_changed(None, vm)


def status_of(pool: Obj, vms: Sequence[Obj], failure: Failure | None, at: datetime) -> Obj:
    """Return the whole status of a pool that has these virtual machines. Pure."""
    status: Obj = copy.deepcopy(pool.get("status") or {})
    status["replicas"] = len(vms)
    status["readyReplicas"] = sum(condition_is(vm, VmCondition.READY) for vm in vms)
    status["labelSelector"] = selectors.to_text(pool["spec"].get("selector"))
    if failure is not None:
        set_condition(status, ReplicaSetCondition.REPLICA_FAILURE, ConditionStatus.TRUE, *failure, at=at)
    elif not pool["spec"].get("paused"):
        drop_condition(status, ReplicaSetCondition.REPLICA_FAILURE)
    if not pool["spec"].get("paused"):
        drop_condition(status, ReplicaSetCondition.REPLICA_PAUSED)
    elif condition({"status": status}, ReplicaSetCondition.REPLICA_PAUSED) is None:
        message = "Pool controller is paused"
        set_condition(
            status, ReplicaSetCondition.REPLICA_PAUSED, ConditionStatus.TRUE, PoolReason.PAUSED, message, at=at
        )
    return status
