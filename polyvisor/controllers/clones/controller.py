"""The clone controller: sees a VirtualMachineClone through a snapshot and a restore, which it makes and clears away.

Both belong to the clone, so that deleting it in the middle leaves nothing. What isn't obvious: they stay until the
copy's claims are bound, because storage that binds late still reads from the snapshot then.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from polyvisor.api.clone_patches import patches_of
from polyvisor.api.clones import ClonePhase, CloneReason
from polyvisor.api.names import EventType
from polyvisor.api.reading import nested, read_status
from polyvisor.api.resources import CLONES, GROUP, PVCS, RESTORES, SNAPSHOT_CONTENTS, SNAPSHOTS, VMS
from polyvisor.api.snapshots import SnapshotPhase, content_name, is_ready, judge_content, judged_content
from polyvisor.controllers.objects import deleting, now, owner_reference, phase_of, stamp, uid
from polyvisor.controllers.snapshots import conditions
from polyvisor.controllers.snapshots.classes import SnapshotSupport
from polyvisor.controllers.snapshots.source import found, state_of
from polyvisor.kube import ApiError, Controller, EventRecorder, Informer, KubeClient, WorkQueue, key_of
from polyvisor.placement import permission

if TYPE_CHECKING:
    from polyvisor.api import Obj
    from polyvisor.api.resources import Resource

Key = tuple[str, str]
LOOK_SECONDS = 2.0
OVER = (ClonePhase.SUCCEEDED, ClonePhase.FAILED)
STATE = "Source VM with backend storage (persistent TPM or EFI) cannot be cloned"


class Failing(Exception):
    """The clone cannot be made."""


class Waiting(Exception):
    """The clone waits for somebody else."""


class CloneController:
    """Reconciles clones; the informers are shared and are run by the owner."""

    def __init__(
        self,
        client: KubeClient,
        recorder: EventRecorder,
        support: SnapshotSupport,
        *,
        clones: Informer,
        snapshots: Informer,
        restores: Informer,
        vms: Informer,
        clock: Callable[[], datetime] = now,
        workers: int = 2,
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._support = support
        self._clones = clones
        self._clock = clock
        self.queue: WorkQueue[Key] = WorkQueue()
        self._controller = Controller("virt-controller-clone", self.queue, self.reconcile, workers)
        clones.on_change(lambda old, new: self.queue.add(key_of(new or old or {})))
        for informer in (snapshots, restores, vms):
            informer.on_change(self._other_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._controller.run()

    async def reconcile(self, key: Key) -> float | None:
        """Bring one clone a step further; return the seconds after which to look again."""
        clone = self._clones.get(*key)
        if clone is None or deleting(clone) or phase_of(clone) == ClonePhase.FAILED:
            return None
        status = copy.deepcopy(read_status(clone))
        if phase_of(clone) == ClonePhase.SUCCEEDED and not status.get("restoreName"):
            await self._drop_without_target(clone)
            return None
        try:
            waits = await self._step(clone, status)
        except Waiting as error:
            self._tell(status, False, "Pending", str(error))
            waits = True
        except Failing as error:
            await self._clear(clone, status)
            status["phase"] = str(ClonePhase.FAILED)
            self._tell(status, False, "Failed", str(error))
            self._recorder.event(clone, EventType.WARNING, CloneReason.FAILED, str(error))
            waits = False
        await self._write(clone, status)
        return LOOK_SECONDS if waits else None

    async def _step(self, clone: Obj, status: Obj) -> bool:
        """Take the next steps, and put down in ``status`` how far it is; return whether to look again."""
        namespace, spec = clone["metadata"]["namespace"], clone["spec"]
        phase = status.get("phase")
        self._tell(status, True, "Still processing", "Still processing")
        if not phase:
            await self._target_is_free(clone)
        if phase in (None, "", ClonePhase.SNAPSHOT):
            snapshot = await self._snapshot(clone, status)
            if snapshot is None or not is_ready(snapshot):
                return True
            self._said(clone, CloneReason.SNAPSHOT_READY, f"snapshot {snapshot['metadata']['name']} is ready to use")
            status["phase"] = str(ClonePhase.RESTORE)
            await self._restore(clone, status, snapshot)
            return True
        restore = await found(self._client, RESTORES, status["restoreName"], namespace)
        if restore is None:
            raise Failing(f"restore {status['restoreName']} does not exist any more")
        if why := next((one for one in _conditions(restore) if one["type"] == conditions.FAILURE), None):
            raise Failing(f"restore {status['restoreName']} failed: {why.get('reason')}")
        if not read_status(restore).get("complete"):
            return True
        target = str(spec["target"]["name"])
        if phase == ClonePhase.RESTORE:
            self._said(clone, CloneReason.RESTORE_READY, f"restore {status['restoreName']} is complete")
            status |= {"phase": str(ClonePhase.TARGET), "targetName": target}
        if await found(self._client, VMS, target, namespace) is None:
            raise Failing(f"target VM {target} does not exist any more")
        if phase != ClonePhase.SUCCEEDED:
            self._said(clone, CloneReason.TARGET_CREATED, f"created target VM {target}")
            status |= {"phase": str(ClonePhase.SUCCEEDED), "creationTime": stamp(self._clock())}
        self._tell(status, False, "Ready", "Ready", ready=True)
        for entry in read_status(restore).get("restores") or []:
            claim = await found(self._client, PVCS, entry["persistentVolumeClaim"], namespace)
            if claim is not None and phase_of(claim) != "Bound":
                return True
        self._said(clone, CloneReason.PVC_BOUND, "all PVCs are bound")
        await self._clear(clone, status)
        return False

    async def _target_is_free(self, clone: Obj) -> None:
        name, namespace = clone["spec"]["target"]["name"], clone["metadata"]["namespace"]
        if await found(self._client, VMS, name, namespace) is not None:
            raise Failing(f"VirtualMachine {namespace}/{name} exists already; name another target")

    async def _snapshot(self, clone: Obj, status: Obj) -> Obj | None:
        """Return the snapshot that the clone is made from, made first if the source is a machine."""
        namespace, source = clone["metadata"]["namespace"], clone["spec"]["source"]
        status["phase"] = str(ClonePhase.SNAPSHOT)
        if source["kind"] == SNAPSHOTS.kind:
            snapshot = await found(self._client, SNAPSHOTS, source["name"], namespace)
            if snapshot is None:
                status["phase"] = ""
                raise self._no_source(clone)
        elif not status.get("snapshotName"):
            vm = await found(self._client, VMS, source["name"], namespace)
            if vm is None:
                status["phase"] = ""
                raise self._no_source(clone)
            if state_of(vm):
                raise Failing(f"{STATE}: VM {namespace}/{source['name']}")
            lacking = [one for one in await self._support.statuses(vm) if not one["enabled"] and _claimed(vm, one)]
            if lacking:
                status["phase"] = ""
                raise Waiting("; ".join(f"volume {one['name']} does not support snapshots" for one in lacking))
            name = f"tmp-snapshot-{uid(clone)}"
            status["snapshotName"] = await self._make(clone, SNAPSHOTS, name, {"source": source})
            self._said(clone, CloneReason.SNAPSHOT_CREATED, f"created snapshot {status['snapshotName']}")
            return None
        else:
            snapshot = await found(self._client, SNAPSHOTS, status["snapshotName"], namespace)
            if snapshot is None:
                raise Failing(f"snapshot {status['snapshotName']} does not exist anymore")
        if phase_of(snapshot) == SnapshotPhase.FAILED:
            why = nested(snapshot, "status", "error").get("message") or "see its conditions"
            raise Failing(f"snapshot {snapshot['metadata']['name']} failed: {why}")
        return snapshot

    def _no_source(self, clone: Obj) -> Waiting:
        source = clone["spec"]["source"]
        what = f"Source doesnt exist: {source['kind']} {clone['metadata']['namespace']}/{source['name']}"
        self._recorder.event(clone, EventType.WARNING, CloneReason.NO_SOURCE, what)
        return Waiting(what)

    async def _restore(self, clone: Obj, status: Obj, snapshot: Obj) -> None:
        """Make the restore that makes the target."""
        namespace = clone["metadata"]["namespace"]
        content = await found(self._client, SNAPSHOT_CONTENTS, content_name(snapshot), namespace)
        if content is None:
            raise Failing(f"snapshot content {content_name(snapshot)} does not exist")
        source = content["spec"]["source"]["virtualMachine"]
        if state_of(source):
            raise Failing(f"{STATE}: snapshot {namespace}/{snapshot['metadata']['name']}")
        held = {backup["volumeName"] for backup in content["spec"].get("volumeBackups") or []}
        for volume in nested(source, "spec", "template", "spec").get("volumes") or []:
            if ("persistentVolumeClaim" in volume or "dataVolume" in volume) and volume["name"] not in held:
                raise Failing(f"volume {volume['name']} is not backed up in snapshot {snapshot['metadata']['name']}")
        spec = {
            "target": {"apiGroup": GROUP, "kind": VMS.kind, "name": clone["spec"]["target"]["name"]},
            "virtualMachineSnapshotName": snapshot["metadata"]["name"],
            "patches": patches_of(clone["spec"], source),
        }
        if policy := clone["spec"].get("volumeNamePolicy"):
            spec["volumeRestorePolicy"] = policy
        status["restoreName"] = await self._make(clone, RESTORES, f"tmp-restore-{uid(clone)}", spec)
        self._said(clone, CloneReason.RESTORE_CREATED, f"created restore {status['restoreName']}")

    async def _make(self, clone: Obj, resource: Resource, name: str, spec: Obj) -> str:
        body = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {
                "name": name,
                "namespace": clone["metadata"]["namespace"],
                "ownerReferences": [owner_reference(clone, CLONES)],
            },
            "spec": spec,
        }
        permission.hand_on(clone, body)
        if resource is RESTORES:
            judge_content(body, judged_content(clone))
        try:
            await self._client.create(resource, body)
        except ApiError as error:
            if error.already_exists:
                return name
            if error.code in (400, 403, 422):
                raise Failing(f"{resource.kind} {name} cannot be made: {error}") from error
            raise
        return name

    async def _clear(self, clone: Obj, status: Obj) -> None:
        """Delete the restore, and the snapshot that was made for the clone."""
        for field, resource in (("restoreName", RESTORES), ("snapshotName", SNAPSHOTS)):
            if name := status.pop(field, None):
                try:
                    await self._client.delete(resource, name, clone["metadata"]["namespace"])
                except ApiError as error:
                    if not error.not_found:
                        raise

    async def _drop_without_target(self, clone: Obj) -> None:
        """Delete a clone whose virtual machine is gone, as KubeVirt does."""
        namespace, name = clone["metadata"]["namespace"], str(read_status(clone).get("targetName"))
        if await found(self._client, VMS, name, namespace) is None:
            await self._client.delete(CLONES, clone["metadata"]["name"], namespace, uid=uid(clone))

    def _said(self, clone: Obj, reason: CloneReason, what: str) -> None:
        self._recorder.event(clone, EventType.NORMAL, reason, f"{what} for clone {clone['metadata']['name']}")

    def _tell(self, status: Obj, progressing: bool, what: str, text: str, *, ready: bool = False) -> None:
        conditions.tell(status, conditions.PROGRESSING, progressing, what, self._clock())
        conditions.tell(status, conditions.READY, ready, text, self._clock())

    async def _write(self, clone: Obj, status: Obj) -> None:
        if status != read_status(clone):
            self._clones.learn(await self._client.update_status(CLONES, {**clone, "status": status}))

    def _other_changed(self, old: Obj | None, new: Obj | None) -> None:
        obj = new or old or {}
        namespace, name = key_of(obj)
        for clone in self._clones.items(namespace):
            status, spec = read_status(clone), clone["spec"]
            made = (status.get("snapshotName"), status.get("restoreName"), status.get("targetName"))
            if name in (*made, nested(spec, "source").get("name"), nested(spec, "target").get("name")):
                self.queue.add(key_of(clone))


def _conditions(obj: Obj) -> list[Obj]:
    found_: list[Obj] = read_status(obj).get("conditions") or []
    return found_


def _claimed(vm: Obj, entry: Obj) -> bool:
    """Whether a volume's status is about a claim, which the copy has to have."""
    volumes = nested(vm, "spec", "template", "spec").get("volumes") or []
    return any(
        volume["name"] == entry["name"] and ("persistentVolumeClaim" in volume or "dataVolume" in volume)
        for volume in volumes
    )
