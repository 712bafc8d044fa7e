"""The restore controller: brings a virtual machine back to a snapshot, or makes another from it.

The target has to be stopped. Claims are made from the VolumeSnapshots first, and only when all are filled does the
machine change, so that a restore that fails leaves it as it was. What isn't obvious: a claim that keeps its name has to
go before it can be made anew; it carries the restore's mark then, so that it is not deleted a second time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from polyvisor.api.cluster_resources import STORAGE_CLASSES, VOLUME_SNAPSHOTS
from polyvisor.api.names import EventType, RunStrategy
from polyvisor.api.reading import annotations_of, nested, read_status
from polyvisor.api.resources import DATAVOLUMES, PVCS, RESTORES, SNAPSHOT_CONTENTS, SNAPSHOTS, VMIS, VMS
from polyvisor.api.snapshots import (
    GRACE_SECONDS,
    LAST_RESTORE_ANNOTATION,
    RESTORE_FINALIZER,
    ReadinessPolicy,
    RestorePolicy,
    SnapshotPhase,
    content_name,
    is_ready,
    judged_content,
)
from polyvisor.api.volumes import claims_of as claims_of_spec
from polyvisor.controllers.objects import (
    add_finalizer,
    deleting,
    has_finalizer,
    moment,
    now,
    owner_reference,
    phase_of,
    remove_finalizer,
    stamp,
    uid,
)
from polyvisor.controllers.snapshots import conditions, restored
from polyvisor.controllers.snapshots.source import claims_of, found, state_of
from polyvisor.controllers.vm_decide import run_strategy
from polyvisor.kube import ApiError, Controller, EventRecorder, Informer, KubeClient, WorkQueue, key_of

if TYPE_CHECKING:
    from polyvisor.api import Obj

Key = tuple[str, str]
LOOK_SECONDS = 1.0
COMPLETE, ERROR = "VirtualMachineRestoreComplete", "VirtualMachineRestoreError"
NOT_READY_EVENT = "RestoreTargetNotReady"
STOPPING = "Automatically stopping restore target for restore operation"
WAITING = "Waiting for target VM to be powered off. Please stop the restore target to proceed with restore"
NOT_OFF = "Restore target VMI must be powered off before restore operation"
TOO_LATE = "Restore target failed to be ready within 5m0s. Please power off the target VM before attempting restore"
OTHER_TARGET = "restore source and restore target are different but restore target already exists"
PREPOPULATED = "cdi.kubevirt.io/storage.prePopulated"


class Failing(Exception):
    """The restore cannot go on; ``final`` if it never will."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


class RestoreController:
    """Reconciles restores; the informers are shared and are run by the owner."""

    def __init__(
        self,
        client: KubeClient,
        recorder: EventRecorder,
        *,
        restores: Informer,
        snapshots: Informer,
        vmis: Informer,
        clock: Callable[[], datetime] = now,
        workers: int = 2,
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._restores = restores
        self._clock = clock
        self.queue: WorkQueue[Key] = WorkQueue()
        self._controller = Controller("virt-controller-restore", self.queue, self.reconcile, workers)
        restores.on_change(lambda old, new: self.queue.add(key_of(new or old or {})))
        snapshots.on_change(lambda old, new: self._wake(new or old or {}, "virtualMachineSnapshotName"))
        vmis.on_change(lambda old, new: self._wake(new or old or {}, "target"))

    async def run(self) -> None:
        """Work until cancelled."""
        await self._controller.run()

    def _wake(self, obj: Obj, field: str) -> None:
        namespace, name = key_of(obj)
        for restore in self._restores.items(namespace):
            named = restore["spec"].get(field)
            if name in (named, nested(restore, "spec", "target").get("name") if field == "target" else named):
                self.queue.add(key_of(restore))

    async def reconcile(self, key: Key) -> float | None:
        """Bring one restore a step further; return the seconds after which to look again."""
        restore = self._restores.get(*key)
        if restore is None:
            return None
        target = await found(self._client, VMS, restore["spec"]["target"]["name"], key[0])
        if deleting(restore):
            return await self._let_go(restore, target)
        status = copy.deepcopy(read_status(restore))
        if status.get("complete") or any(one["type"] == conditions.FAILURE for one in status.get("conditions") or []):
            return None
        if not status:
            status = {"complete": False}
            self._tell(status, True, False, "Initializing VirtualMachineRestore")
            restore = await self._write(restore, status)
        if not has_finalizer(restore, RESTORE_FINALIZER):
            held = copy.deepcopy(restore)
            add_finalizer(held, RESTORE_FINALIZER)
            if target is not None and not held["metadata"].get("ownerReferences"):
                held["metadata"]["ownerReferences"] = [owner_reference(target, VMS)]
            restore = await self._client.update(RESTORES, held)
            self._restores.learn(restore)
        try:
            return await self._restore(restore, target)
        except Failing as error:
            return await self._failed(restore, target, error)
        except ApiError as error:
            if error.conflict or error.code not in (400, 403, 422):
                raise
            return await self._failed(restore, target, Failing(str(error), final=True))

    async def _restore(self, restore: Obj, target: Obj | None) -> float | None:
        namespace = restore["metadata"]["namespace"]
        if target is not None and (wait := await self._until_stopped(restore, target)) is not None:
            return wait
        snapshot, content = await self._content(restore)
        done = target is not None and _marked(target, restore)
        if target is not None and not done and uid(target) != read_status(snapshot).get("sourceUID", uid(target)):
            raise Failing(OTHER_TARGET, final=True)
        if target is not None and not done:
            target = await self._hold(restore, target)
        entries = read_status(restore).get("restores")
        if not entries:
            entries = restored.restores_of(restore, content)
            status = copy.deepcopy(read_status(restore)) | {"restores": entries}
            restore = await self._write(restore, status)
        if await self._claims(restore, content, entries, target):
            status = copy.deepcopy(read_status(restore))
            self._tell(status, True, False, "Creating new PVCs", "Waiting for new PVCs")
            await self._write(restore, status)
            return LOOK_SECONDS
        if not done:
            target, restore = await self._machine(restore, content, entries, target)
        assert target is not None
        if restore["spec"].get("volumeOwnershipPolicy") != "None":
            await self._own(entries, target, namespace)
        await self._drop_old_volumes(restore, target)
        await self._release(restore, target)
        status = copy.deepcopy(read_status(restore))
        status |= {"complete": True, "restoreTime": stamp(self._clock())}
        self._tell(status, False, True, "Operation complete")
        await self._write(restore, status)
        what = f"Successfully completed VirtualMachineRestore {restore['metadata']['name']}"
        self._recorder.event(restore, EventType.NORMAL, COMPLETE, what)
        return None

    async def _until_stopped(self, restore: Obj, target: Obj) -> float | None:
        """Return the seconds to wait for the target to stop, None if it has; raises if it is not waited for."""
        namespace, name = key_of(target)
        if _marked(target, restore) or await found(self._client, VMIS, name, namespace) is None:
            return None
        policy = restore["spec"].get("targetReadinessPolicy") or ReadinessPolicy.GRACE
        begun = moment(restore["metadata"]["creationTimestamp"]) or self._clock()
        left = (begun + timedelta(seconds=GRACE_SECONDS) - self._clock()).total_seconds()
        said = WAITING
        if policy == ReadinessPolicy.FAIL:
            raise Failing(NOT_OFF, final=True)
        if policy == ReadinessPolicy.GRACE:
            if left <= 0:
                raise Failing(TOO_LATE, final=True)
            said = f"{WAITING}, or the operation will fail after 5m0s"
        elif policy == ReadinessPolicy.STOP:
            said = STOPPING
            if run_strategy(target) != RunStrategy.HALTED:
                stopped = copy.deepcopy(target)
                stopped["spec"].pop("running", None)
                stopped["spec"]["runStrategy"] = str(RunStrategy.HALTED)
                await self._client.update(VMS, stopped)
        status = copy.deepcopy(read_status(restore))
        self._tell(status, False, False, said)
        if status != read_status(restore):
            self._recorder.event(restore, EventType.WARNING, NOT_READY_EVENT, said)
            await self._write(restore, status)
        return left if policy == ReadinessPolicy.GRACE else LOOK_SECONDS

    async def _content(self, restore: Obj) -> tuple[Obj, Obj]:
        namespace, name = restore["metadata"]["namespace"], restore["spec"]["virtualMachineSnapshotName"]
        snapshot = await found(self._client, SNAPSHOTS, name, namespace)
        if snapshot is None:
            raise Failing(f"VMSnapshot {namespace}/{name} does not exist")
        if phase_of(snapshot) == SnapshotPhase.FAILED:
            raise Failing(f"VMSnapshot {namespace}/{name} failed and is invalid to use", final=True)
        if not is_ready(snapshot):
            raise Failing(f"VMSnapshot {namespace}/{name} not ready")
        content = await found(self._client, SNAPSHOT_CONTENTS, content_name(snapshot), namespace)
        if content_name(snapshot) != (judged_content(restore) or content_name(snapshot)):
            raise Failing(f"VMSnapshot {namespace}/{name} is another one than when the restore was made", final=True)
        if content is None:
            raise Failing(f"VMSnapshotContent {namespace}/{content_name(snapshot)} does not exist", final=True)
        return snapshot, content

    async def _hold(self, restore: Obj, target: Obj) -> Obj:
        """Keep the target from being started."""
        name, other = restore["metadata"]["name"], read_status(target).get("restoreInProgress")
        if other == name:
            return target
        if other is not None:
            raise Failing(f"vm restore {other} in progress")
        status = {**read_status(target), "restoreInProgress": name}
        return await self._client.update_status(VMS, {**target, "status": status})

    async def _claims(self, restore: Obj, content: Obj, entries: list[Obj], target: Obj | None) -> bool:
        """Make the claims that are missing; return whether one is still awaited."""
        namespace, waits = restore["metadata"]["namespace"], False
        source = content["spec"]["source"]["virtualMachine"]
        backups = {backup["volumeName"]: backup for backup in content["spec"]["volumeBackups"]}
        in_place = restore["spec"].get("volumeRestorePolicy") == RestorePolicy.IN_PLACE
        for entry in entries:
            name, backup = entry["persistentVolumeClaim"], backups[entry["volumeName"]]
            claim = await found(self._client, PVCS, name, namespace)
            if claim is not None and not _marked(claim, restore):
                itself = name == backup["persistentVolumeClaim"]["metadata"]["name"]
                if not (itself and (in_place or name == state_of(source))):
                    raise Failing(f"PVC {namespace}/{name} exists already; it is not of this restore", final=True)
                await self._size(entry, namespace)  # nothing is deleted for a VolumeSnapshot that is gone
                await self._used_by_none(name, namespace, restore["spec"]["target"]["name"])
                await self._replace(claim)
                waits = True
            elif claim is None:
                owners = self._owners(restore, backup, target, kept=in_place or name == state_of(source))
                size = await self._size(entry, namespace)
                body = restored.claim(restore, entry, backup, size, source, owners)
                await self._client.create(PVCS, body)
                waits = True
            elif deleting(claim) or (phase_of(claim) != "Bound" and not await self._binds_late(claim)):
                waits = True
        return waits

    async def _used_by_none(self, claim: str, namespace: str, but: str) -> None:
        """Refuse to replace a claim that another machine uses."""
        users = [(VMS.kind, one, set(claims_of(one).values())) for one in await self._client.list(VMS, namespace)]
        users += [
            (VMIS.kind, one, set(claims_of_spec(one["spec"]))) for one in await self._client.list(VMIS, namespace)
        ]
        for kind, user, used in users:
            name = user["metadata"]["name"]
            if name != but and claim in used:
                raise Failing(f"PVC {namespace}/{claim} cannot be replaced: {kind} {name} uses it", final=True)

    async def _replace(self, claim: Obj) -> None:
        """Delete a claim whose name is wanted; a DataVolume that has it is told not to make another."""
        namespace, name = key_of(claim)
        owner = await found(self._client, DATAVOLUMES, name, namespace)
        if owner is not None and annotations_of(owner).get(PREPOPULATED) != name:
            change = {"metadata": {"annotations": {PREPOPULATED: name}}}
            await self._client.patch(DATAVOLUMES, name, change, namespace)
        if not deleting(claim):
            await self._client.delete(PVCS, name, namespace, uid=uid(claim))

    def _owners(self, restore: Obj, backup: Obj, target: Obj | None, *, kept: bool) -> list[Obj]:
        """Return who owns a restored claim from the start."""
        if kept:
            before = backup["persistentVolumeClaim"]["metadata"].get("ownerReferences") or []
            return [one for one in before if target is not None or one.get("kind") != VMS.kind]
        if restore["spec"].get("volumeOwnershipPolicy") == "None" or target is None:
            return []
        return [owner_reference(target, VMS)]

    async def _size(self, entry: Obj, namespace: str) -> str | None:
        one = await found(self._client, VOLUME_SNAPSHOTS, entry["volumeSnapshotName"], namespace)
        if one is None:
            raise Failing(f"missing volumeSnapshot {entry['volumeSnapshotName']}", final=True)
        return read_status(one).get("restoreSize")

    async def _binds_late(self, claim: Obj) -> bool:
        """Whether a claim is bound only when a machine uses it."""
        name = claim["spec"].get("storageClassName")
        storage = await found(self._client, STORAGE_CLASSES, name, "") if name else None
        return storage is not None and storage.get("volumeBindingMode") == "WaitForFirstConsumer"

    async def _machine(self, restore: Obj, content: Obj, entries: list[Obj], target: Obj | None) -> tuple[Obj, Obj]:
        """Change the target, or make it; return it, and the restore with what goes."""
        try:
            wanted = restored.machine(restore, content, entries, target)
        except ValueError as error:
            raise Failing(str(error), final=True) from error
        if target is None:
            return await self._client.create(VMS, wanted), restore
        before = {one["metadata"]["name"] for one in target["spec"].get("dataVolumeTemplates") or []}
        after = {one["metadata"]["name"] for one in wanted["spec"].get("dataVolumeTemplates") or []}
        status = copy.deepcopy(read_status(restore))
        if gone := sorted(before - after):
            status["deletedDataVolumes"] = gone
        self._tell(status, True, False, "Updating target spec", "Waiting for target update")
        restore = await self._write(restore, status)
        return await self._client.update(VMS, wanted), restore

    async def _own(self, entries: list[Obj], target: Obj, namespace: str) -> None:
        """Let a new machine own its claims, so that they go with it."""
        for entry in entries:
            claim = await found(self._client, PVCS, entry["persistentVolumeClaim"], namespace)
            if claim is not None and not claim["metadata"].get("ownerReferences"):
                owners = {"ownerReferences": [owner_reference(target, VMS)]}
                change = {"metadata": {**owners, "resourceVersion": claim["metadata"]["resourceVersion"]}}
                await self._client.patch(PVCS, claim["metadata"]["name"], change, namespace)

    async def _drop_old_volumes(self, restore: Obj, target: Obj) -> None:
        """Delete the DataVolumes that the machine has no template for any more, and their claims; none of others."""
        owners = {uid(target)}
        for name in read_status(restore).get("deletedDataVolumes") or []:
            for resource in (DATAVOLUMES, PVCS):
                one = await found(self._client, resource, name, restore["metadata"]["namespace"])
                if one is not None and any(by["uid"] in owners for by in one["metadata"].get("ownerReferences") or []):
                    owners.add(uid(one))
                    await self._client.delete(resource, name, restore["metadata"]["namespace"], uid=uid(one))

    async def _release(self, restore: Obj, target: Obj) -> None:
        """Let the target be started again."""
        fresh = await self._client.get(VMS, target["metadata"]["name"], target["metadata"]["namespace"])
        if read_status(fresh).get("restoreInProgress") != restore["metadata"]["name"]:
            return
        gone = ("restoreInProgress", "memoryDumpRequest")
        status = {key: value for key, value in read_status(fresh).items() if key not in gone}
        await self._client.update_status(VMS, {**fresh, "status": status})

    async def _failed(self, restore: Obj, target: Obj | None, error: Failing) -> float | None:
        """Say what is wrong; if it stays wrong, give up and leave nothing behind."""
        status, text = copy.deepcopy(read_status(restore)), str(error)
        self._tell(status, False, False, text)
        if error.final:
            conditions.tell(status, conditions.FAILURE, True, text, self._clock())
        if status != read_status(restore):
            self._recorder.event(restore, EventType.WARNING, ERROR, f"VirtualMachineRestore encountered error {text}")
            restore = await self._write(restore, status)
        if not error.final:
            return LOOK_SECONDS * 5
        if not (target is not None and _marked(target, restore)):
            await self._drop_new_claims(restore)
        if target is not None:
            await self._release(restore, target)
        return None

    async def _drop_new_claims(self, restore: Obj) -> None:
        """Delete claims that were made for a restore that came to nothing."""
        namespace = restore["metadata"]["namespace"]
        if restore["spec"].get("volumeRestorePolicy") == RestorePolicy.IN_PLACE:
            return  # the claims before them are gone, so these are the machine's
        for entry in read_status(restore).get("restores") or []:
            if entry["persistentVolumeClaim"] == entry["volumeName"]:
                continue  # the machine's own state, which keeps its name
            claim = await found(self._client, PVCS, entry["persistentVolumeClaim"], namespace)
            if claim is not None and _marked(claim, restore) and not deleting(claim):
                await self._client.delete(PVCS, claim["metadata"]["name"], namespace)

    async def _let_go(self, restore: Obj, target: Obj | None) -> float | None:
        if not has_finalizer(restore, RESTORE_FINALIZER):
            return None
        if target is not None:
            await self._release(restore, target)
        released = copy.deepcopy(restore)
        remove_finalizer(released, RESTORE_FINALIZER)
        try:
            await self._client.update(RESTORES, released)
        except ApiError as error:
            if not error.not_found:
                raise
        return None

    def _tell(self, status: Obj, progressing: bool, ready: bool, text: str, waiting: str = "") -> None:
        conditions.tell(status, conditions.PROGRESSING, progressing, text, self._clock())
        conditions.tell(status, conditions.READY, ready, waiting or text, self._clock())

    async def _write(self, restore: Obj, status: Obj) -> Obj:
        if status != read_status(restore):
            restore = await self._client.update_status(RESTORES, {**restore, "status": status})
            self._restores.learn(restore)
        return restore


def _marked(obj: Obj, restore: Obj) -> bool:
    """Whether an object was made or changed by this restore."""
    return annotations_of(obj).get(LAST_RESTORE_ANNOTATION) == restored.mark(restore)
