"""The snapshot controller: brings a VirtualMachineSnapshot from its request to a content that can be restored from.

The order: the machine is locked, the content is written down, the guest's file systems are frozen, all VolumeSnapshots
are made, and once all are taken the guest goes on. Each step can be repeated. What isn't obvious: VolumeSnapshots are
looked at again and again instead of watched, because a cluster may not have the kind.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from polyvisor.api.durations import seconds_of
from polyvisor.api.names import EventType
from polyvisor.api.reading import nested, read_status
from polyvisor.api.resources import PVCS, SNAPSHOT_CONTENTS, SNAPSHOTS, VMIS, VMS
from polyvisor.api.snapshots import (
    CONTENT_FINALIZER,
    DEADLINE_SECONDS,
    INDICATIONS,
    LOCAL_CLASS,
    SNAPSHOT_FINALIZER,
    Indication,
    SnapshotPhase,
    content_name,
    is_ready,
)
from polyvisor.controllers.objects import (
    add_finalizer,
    deleting,
    has_finalizer,
    moment,
    now,
    phase_of,
    remove_finalizer,
    stamp,
    uid,
)
from polyvisor.controllers.snapshots import conditions, volumes
from polyvisor.controllers.snapshots.allowed import why_not
from polyvisor.controllers.snapshots.classes import SnapshotClasses
from polyvisor.controllers.snapshots.source import Source, claims_of, found
from polyvisor.kube import ApiError, Controller, EventRecorder, Informer, KubeClient, WorkQueue, key_of

if TYPE_CHECKING:
    from polyvisor.api import Obj
    from polyvisor.drivers import DriverRegistry

Key = tuple[str, str]
LOOK_SECONDS = 1.0
DEADLINE_EXCEEDED = "snapshot deadline exceeded"
CREATED, MISSING = "SuccessfulVirtualMachineSnapshotContentCreate", "VolumeSnapshotMissing"
KEPT_OF_CLAIM = ("name", "namespace", "uid", "labels", "annotations", "ownerReferences")


class SnapshotController:
    """Reconciles snapshots with their contents; the informers are shared and are run by the owner."""

    def __init__(
        self,
        client: KubeClient,
        recorder: EventRecorder,
        classes: SnapshotClasses,
        drivers: DriverRegistry,
        *,
        snapshots: Informer,
        contents: Informer,
        vms: Informer,
        clock: Callable[[], datetime] = now,
        workers: int = 2,
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._classes = classes
        self._drivers = drivers
        self._snapshots, self._contents = snapshots, contents
        self._clock = clock
        self.queue: WorkQueue[Key] = WorkQueue()
        self._controller = Controller("virt-controller-snapshot", self.queue, self.reconcile, workers)
        snapshots.on_change(lambda old, new: self.queue.add(key_of(new or old or {})))
        contents.on_change(self._content_changed)
        vms.on_change(self._machine_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._controller.run()

    async def reconcile(self, key: Key) -> float | None:
        """Bring one snapshot a step further; return the seconds after which to look again."""
        snapshot = self._snapshots.get(*key)
        if snapshot is None:
            return None
        if deleting(snapshot):
            return await self._delete(snapshot)
        if phase_of(snapshot) == SnapshotPhase.FAILED:
            return None
        if not has_finalizer(snapshot, SNAPSHOT_FINALIZER):
            held = copy.deepcopy(snapshot)
            add_finalizer(held, SNAPSHOT_FINALIZER)
            snapshot = await self._client.update(SNAPSHOTS, held)
            self._snapshots.learn(snapshot)
        if phase_of(snapshot) == SnapshotPhase.SUCCEEDED:
            return await self._follow(snapshot)
        return await self._take(snapshot)

    async def _take(self, snapshot: Obj) -> float | None:
        """Take the next step of a snapshot that is in progress."""
        status = copy.deepcopy(read_status(snapshot))
        status |= {"phase": str(SnapshotPhase.IN_PROGRESS)}
        status.setdefault("readyToUse", False)
        source = await self._source(snapshot)
        left = self._left(snapshot)
        if left is not None and left <= 0:
            return await self._fail(snapshot, source, DEADLINE_EXCEEDED)
        at = self._clock()
        conditions.tell(status, conditions.READY, False, "Not ready", at)
        if source is None:
            conditions.tell(status, conditions.PROGRESSING, False, "Source does not exist", at)
            await self._write(snapshot, status)
            return left
        status["sourceUID"] = uid(source.vm)
        if not source.locked and (why := await self._why_not(source)):
            return await self._fail(snapshot, source, why)
        if why := "" if source.locked else await source.lock():
            name = f"source {source.vm['metadata']['namespace']}/{source.vm['metadata']['name']}"
            conditions.tell(status, conditions.PROGRESSING, False, f"Source not locked {name} {why}", at)
            await self._write(snapshot, status)
            return LOOK_SECONDS
        conditions.tell(status, conditions.PROGRESSING, True, "Source locked and operation in progress", at)
        if "virtualMachineSnapshotContentName" not in status:  # later the node may have paused the guest
            _indicate(status, source.indications())
        content = await self._content(snapshot)
        if content is None:
            content = await self._make_content(snapshot, source)
        status["virtualMachineSnapshotContentName"] = content["metadata"]["name"]
        seen = await volumes.look(self._client, content)
        try:
            if seen.missing:
                await source.freeze(DEADLINE_SECONDS if left is None else left)
                await volumes.make(self._client, content, seen.missing, await self._classes_of(content))
                seen = await volumes.look(self._client, content)
            if seen.created and _froze(status):
                await source.thaw()
        except ApiError as error:
            if error.conflict and error.reason == "Conflict" and "virtualmachineinstance" not in error.message:
                raise
            seen.error = str(error)
        if seen.error and seen.final:
            return await self._fail(snapshot, source, seen.error)
        if seen.created and not seen.error:
            return await self._succeed(snapshot, status, source, content, seen)
        if seen.error:
            status["error"] = conditions.error_of(seen.error, at)
            conditions.tell(status, conditions.PROGRESSING, False, "In error state", at)
        await self._write_content(content, seen)
        await self._write(snapshot, status)
        return LOOK_SECONDS

    async def _content(self, snapshot: Obj) -> Obj | None:
        return await found(self._client, SNAPSHOT_CONTENTS, content_name(snapshot), snapshot["metadata"]["namespace"])

    async def _succeed(
        self, snapshot: Obj, status: Obj, source: Source, content: Obj, seen: volumes.Seen
    ) -> float | None:
        content = await self._write_content(content, seen, created=True)
        at = self._clock()
        status |= {
            "phase": str(SnapshotPhase.SUCCEEDED),
            "creationTime": read_status(content)["creationTime"],
            "readyToUse": seen.ready,
            "snapshotVolumes": _volumes(content),
        }
        status.pop("error", None)
        if self._partial(content):
            _indicate(status, [*map(Indication, status.get("indications") or []), Indication.PARTIAL])
        conditions.tell(status, conditions.PROGRESSING, False, "Operation complete", at)
        conditions.tell(status, conditions.READY, seen.ready, "Ready" if seen.ready else "Not ready", at)
        await self._write(snapshot, status)
        await source.unlock()
        return None if seen.ready else LOOK_SECONDS

    async def _follow(self, snapshot: Obj) -> float | None:
        """Keep a snapshot that is complete in step with its content."""
        source = await self._source(snapshot)
        if source is not None:
            await source.unlock()  # a controller that died before may have left it
        content = await self._content(snapshot)
        status, at = copy.deepcopy(read_status(snapshot)), self._clock()
        ready = False
        if content is None or deleting(content):
            status["error"] = conditions.error_of(f"content {content_name(snapshot)} is missing", at)
        else:
            seen = await volumes.look(self._client, content)
            for name in seen.missing if is_ready(content) else ():
                self._recorder.event(content, EventType.WARNING, MISSING, f"VolumeSnapshot {name} no longer exists")
            content = await self._write_content(content, seen, created=True)
            ready = seen.ready
            if told := read_status(content).get("error"):
                status["error"] = told
            else:
                status.pop("error", None)
        status["readyToUse"] = ready
        if "error" in status and status["error"].get("message") == nested(snapshot, "status", "error").get("message"):
            status["error"] = snapshot["status"]["error"]  # told once, with the time of then
        conditions.tell(status, conditions.READY, ready, "Ready" if ready else "Not ready", at)
        await self._write(snapshot, status)
        waits = content is not None and not ready and not status.get("error")
        return LOOK_SECONDS if waits else None

    async def _fail(self, snapshot: Obj, source: Source | None, why: str) -> float | None:
        """End a snapshot that did not come to be: the guest goes on, and only the snapshot stays, which says why."""
        await self._thaw(snapshot, source)
        await self._drop_content(snapshot)
        if source is not None:
            await source.unlock()
        status, at = copy.deepcopy(read_status(snapshot)), self._clock()
        status |= {"phase": str(SnapshotPhase.FAILED), "readyToUse": False}
        if why != DEADLINE_EXCEEDED:
            status["error"] = conditions.error_of(why, at)
        conditions.failed(status, why, at)
        await self._write(snapshot, status)
        self._recorder.event(snapshot, EventType.WARNING, "SnapshotFailed", why)
        return None

    async def _thaw(self, snapshot: Obj, source: Source | None) -> None:
        """Let a guest go on that was frozen; where that fails, it thaws by itself after a while."""
        if source is not None and source.locked and _froze(read_status(snapshot)):
            try:
                await source.thaw()
            except ApiError as error:
                self._recorder.event(snapshot, EventType.WARNING, "ThawFailed", str(error))

    async def _delete(self, snapshot: Obj) -> float | None:
        if not has_finalizer(snapshot, SNAPSHOT_FINALIZER):
            return None
        source = await self._source(snapshot)
        if source is not None:
            await self._thaw(snapshot, source)
            await source.unlock()
        content = await self._content(snapshot)
        retained = snapshot["spec"].get("deletionPolicy") == "Retain" and content is not None and is_ready(content)
        await self._drop_content(snapshot, keep=retained)
        released = copy.deepcopy(snapshot)
        remove_finalizer(released, SNAPSHOT_FINALIZER)
        try:
            await self._client.update(SNAPSHOTS, released)
        except ApiError as error:
            if not error.not_found:
                raise
        return None

    async def _drop_content(self, snapshot: Obj, *, keep: bool = False) -> None:
        """Let a snapshot's content go, and delete it unless it is kept; its VolumeSnapshots go with it."""
        name, namespace = content_name(snapshot), snapshot["metadata"]["namespace"]
        content = await found(self._client, SNAPSHOT_CONTENTS, name, namespace)
        if content is None:
            return
        if has_finalizer(content, CONTENT_FINALIZER):
            remove_finalizer(content, CONTENT_FINALIZER)
            await self._client.update(SNAPSHOT_CONTENTS, content)
        if not keep and not deleting(content):
            try:
                await self._client.delete(SNAPSHOT_CONTENTS, name, namespace)
            except ApiError as error:
                if not error.not_found:
                    raise

    async def _make_content(self, snapshot: Obj, source: Source) -> Obj:
        namespace = snapshot["metadata"]["namespace"]
        await self._classes.refresh()
        backups = []
        for volume, name in claims_of(source.vm).items():
            claim = await found(self._client, PVCS, name, namespace)
            if claim is None or phase_of(claim) != "Bound" or not self._classes.of(claim):
                continue
            metadata = {key: claim["metadata"][key] for key in KEPT_OF_CLAIM if key in claim["metadata"]}
            backups.append(
                {
                    "volumeName": volume,
                    "persistentVolumeClaim": {"metadata": metadata, "spec": claim["spec"]},
                    "volumeSnapshotName": f"vmsnapshot-{uid(snapshot)}-volume-{volume}",
                }
            )
        content = {
            "apiVersion": SNAPSHOT_CONTENTS.api_version,
            "kind": SNAPSHOT_CONTENTS.kind,
            "metadata": {"name": content_name(snapshot), "namespace": namespace, "finalizers": [CONTENT_FINALIZER]},
            "spec": {
                "virtualMachineSnapshotName": snapshot["metadata"]["name"],
                "source": {"virtualMachine": await source.spec()},
                "volumeBackups": backups,
            },
        }
        try:
            made = await self._client.create(SNAPSHOT_CONTENTS, content)
        except ApiError as error:
            if not error.already_exists:
                raise
            return await self._client.get(SNAPSHOT_CONTENTS, content_name(snapshot), namespace)
        what = f"Successfully created VirtualMachineSnapshotContent {made['metadata']['name']}"
        self._recorder.event(snapshot, EventType.NORMAL, CREATED, what)
        return made

    async def _why_not(self, source: Source) -> str:
        """Return why the machine cannot be snapshotted as it is, empty if it can."""
        await self._classes.refresh()
        namespace = source.vm["metadata"]["namespace"]
        claims = [await found(self._client, PVCS, name, namespace) for name in claims_of(source.vm).values()]
        by_node = any(claim is not None and self._classes.of(claim) == LOCAL_CLASS for claim in claims)
        return why_not(source.vm, source.vmi, self._drivers, by_node=by_node)

    async def _classes_of(self, content: Obj) -> dict[str, str]:
        await self._classes.refresh()
        claims = [backup["persistentVolumeClaim"] for backup in content["spec"].get("volumeBackups") or []]
        return {claim["metadata"]["name"]: self._classes.of(claim) for claim in claims}

    async def _write_content(self, content: Obj, seen: volumes.Seen, *, created: bool = False) -> Obj:
        status, at = copy.deepcopy(read_status(content)), self._clock()
        status |= {"readyToUse": seen.ready, "volumeSnapshotStatus": seen.entries}
        if created and seen.created:
            status.setdefault("creationTime", stamp(at))
        error = f"VolumeSnapshots ({','.join(seen.missing)}) missing" if created and seen.missing else seen.error
        if not error:
            status.pop("error", None)
        elif nested(status, "error").get("message") != error:
            status["error"] = conditions.error_of(error, at)
        if status == read_status(content):
            return content
        return await self._client.update_status(SNAPSHOT_CONTENTS, {**content, "status": status})

    async def _source(self, snapshot: Obj) -> Source | None:
        namespace, name = snapshot["metadata"]["namespace"], snapshot["spec"]["source"]["name"]
        vm = await found(self._client, VMS, name, namespace)
        if vm is None:
            return None
        return Source(self._client, vm, await found(self._client, VMIS, name, namespace), snapshot["metadata"]["name"])

    def _left(self, snapshot: Obj) -> float | None:
        """Return the seconds until a snapshot fails; None if it may take as long as it likes."""
        given = snapshot["spec"].get("failureDeadline")
        most = DEADLINE_SECONDS if given is None else seconds_of(str(given))
        begun = moment(snapshot["metadata"]["creationTimestamp"]) or self._clock()
        return (begun + timedelta(seconds=most) - self._clock()).total_seconds() if most else None

    def _partial(self, content: Obj) -> bool:
        """Whether a claim of the machine's is not in the snapshot."""
        held = {backup["volumeName"] for backup in content["spec"].get("volumeBackups") or []}
        return bool(claims_of(content["spec"]["source"]["virtualMachine"]).keys() - held)

    async def _write(self, snapshot: Obj, status: Obj) -> None:
        if status != read_status(snapshot):
            self._snapshots.learn(await self._client.update_status(SNAPSHOTS, {**snapshot, "status": status}))

    def _content_changed(self, old: Obj | None, new: Obj | None) -> None:
        content = new or old or {}
        if name := nested(content, "spec").get("virtualMachineSnapshotName"):
            self.queue.add((content["metadata"]["namespace"], name))

    def _machine_changed(self, old: Obj | None, new: Obj | None) -> None:
        namespace, name = key_of(new or old or {})
        for snapshot in self._snapshots.items(namespace):
            waits = phase_of(snapshot) in ("", SnapshotPhase.IN_PROGRESS) or deleting(snapshot)
            if waits and nested(snapshot, "spec", "source").get("name") == name:
                self.queue.add(key_of(snapshot))


def _froze(status: Obj) -> bool:
    """Whether the guest's file systems were frozen for a snapshot."""
    return str(Indication.GUEST_AGENT) in (status.get("indications") or [])


def _indicate(status: Obj, indications: list[Indication]) -> None:
    """Put down what has to be known about a snapshot, in the older field and in the present one."""
    wanted = list(dict.fromkeys(indications))
    if wanted:
        status["indications"] = [str(one) for one in wanted]
        status["sourceIndications"] = [{"indication": str(one), "message": INDICATIONS[one]} for one in wanted]
    else:
        status.pop("indications", None)
        status.pop("sourceIndications", None)


def _volumes(content: Obj) -> Obj:
    """Return which volumes are in a snapshot and which are not."""
    machine = content["spec"]["source"]["virtualMachine"]
    names = [volume["name"] for volume in nested(machine, "spec", "template", "spec").get("volumes") or []]
    names += [name for name in claims_of(machine) if name not in names]
    held = {backup["volumeName"] for backup in content["spec"].get("volumeBackups") or []}
    split = {
        "includedVolumes": [name for name in names if name in held],
        "excludedVolumes": [name for name in names if name not in held],
    }
    return {key: value for key, value in split.items() if value}
