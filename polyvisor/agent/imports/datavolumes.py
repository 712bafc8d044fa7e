"""DataVolumes on a machine without CDI: a claim for each, and its contents fetched, copied or made.

The phases, progress and conditions are CDI's, so that what waits for them there waits for them here. What isn't
obvious: a DataVolume that succeeded is never filled again, whatever becomes of its claim; one that did not is filled
from the beginning, for its claim is not used before.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import threading
from typing import Protocol

from polyvisor.agent.backoff import StepBackoff
from polyvisor.agent.errors import AgentError
from polyvisor.agent.imports.filling import Filler, Needs, needs_of
from polyvisor.agent.node.registration import now
from polyvisor.api import Obj
from polyvisor.api.names import EventType
from polyvisor.api.reading import nested, read_status
from polyvisor.api.resources import CONFIGMAPS, DATAVOLUMES, PVCS, SECRETS
from polyvisor.kube import ApiError, EventRecorder, Informer, KubeClient, WorkQueue, key_of

Key = tuple[str, str]
SUCCEEDED, FAILED, PENDING = "Succeeded", "Failed", "Pending"
UPLOAD_READY = "UploadReady"
WORDS = {"http": "Import", "registry": "Import", "blank": "Import", "pvc": "Clone", "upload": "Upload"}
"""Kind of source -> what the phases are called."""
CONTENT_TYPE = "cdi.kubevirt.io/storage.contentType"
LOOK_SECONDS = 1.0
"""How often progress is written down."""
log = logging.getLogger("polyvisor.datavolumes")


class Claims(Protocol):
    """What makes the places that DataVolumes' claims are: folders of this machine, or disks on hosts."""

    async def holds(self, claim: Obj) -> bool:
        """Whether a claim's class is one whose places are made here."""
        ...

    async def bind(self, claim: Obj) -> None:
        """Make a claim's place, if it is not there, and see to it that the claim is bound."""
        ...


class DataVolumeKeeper:
    """Reconciles DataVolumes whose claims ``claim_keeper`` holds."""

    def __init__(
        self,
        client: KubeClient,
        events: EventRecorder,
        volumes: Informer,
        claims: Informer,
        claim_keeper: Claims,
        filler: Filler,
    ) -> None:
        self._client = client
        self._events = events
        self._volumes = volumes
        self._claims = claims
        self._claim_keeper = claim_keeper
        self._filler = filler
        self._backoff = StepBackoff()
        self._stops: dict[Key, threading.Event] = {}
        self.queue: WorkQueue[Key] = WorkQueue()
        volumes.on_change(self._changed)
        claims.on_change(self._claim_changed)

    def _changed(self, old: Obj | None, new: Obj | None) -> None:
        key = key_of(new or old or {})
        if (new is None or new["metadata"].get("deletionTimestamp")) and key in self._stops:
            self._stops[key].set()
        self.queue.add(key)

    def _claim_changed(self, old: Obj | None, new: Obj | None) -> None:
        claim = new or old or {}
        if self._volumes.get(*key_of(claim)) is not None:
            self.queue.add(key_of(claim))

    async def reconcile(self, key: Key) -> float | None:
        """Bring one DataVolume a step further."""
        volume = self._volumes.get(*key)
        if volume is None or volume["metadata"].get("deletionTimestamp"):
            self._backoff.worked(f"{key}")
            return None
        if read_status(volume).get("phase") in (SUCCEEDED, FAILED):
            return None
        if not await self._claim_keeper.holds(volume_claim(volume)):
            return None
        uid = str(volume["metadata"]["uid"])
        if left := self._backoff.left(uid):
            return left
        try:
            claim = await self._claim(volume)
            await self._fill(volume, claim)
            self._backoff.worked(uid)
            return None
        except AgentError as error:
            return await self._failed(volume, error, uid)

    async def _claim(self, volume: Obj) -> Obj:
        """Return the volume's claim, made if it is not there, and bound."""
        namespace, name = key_of(volume)
        try:
            claim = await self._client.get(PVCS, name, namespace)
        except ApiError as error:
            if not error.not_found:
                raise
            wanted = claim_for(volume, self._source_claim(volume))
            claim = await self._client.create(PVCS, wanted)
            await self._write(volume, PENDING, running=("False", "", ""))
        owners = [owner.get("uid") for owner in claim["metadata"].get("ownerReferences") or []]
        if volume["metadata"]["uid"] not in owners:
            raise AgentError(f"PersistentVolumeClaim {namespace}/{name} exists and is not this DataVolume's")
        await self._claim_keeper.bind(claim)
        return claim

    def _source_claim(self, volume: Obj) -> Obj | None:
        source = nested(volume["spec"], "source").get("pvc")
        return self._claims.get(source["namespace"], source["name"]) if source else None

    async def _fill(self, volume: Obj, claim: Obj) -> None:
        key = key_of(volume)
        kind = kind_of(volume)
        if kind == "upload":
            if read_status(volume).get("phase") != UPLOAD_READY:
                await self._write(volume, UPLOAD_READY, running=("True", "Pod is running", ""))
            return
        word = WORDS[kind]
        needs = needs_of(volume)
        await self._write(volume, f"{word}Scheduled", running=("False", "", ""))
        given = await self._given(volume, needs)
        stop = self._stops[key] = threading.Event()
        progress = Progress()
        filling = asyncio.create_task(
            asyncio.to_thread(self._filler.fill, volume, claim, given, progress.tell, stop), name=f"fill-{key[1]}"
        )
        try:
            while not filling.done():
                percent = None if kind == "blank" else progress.text
                await self._write(volume, f"{word}InProgress", running=("True", "Pod is running", ""), progress=percent)
                await asyncio.wait([filling], timeout=LOOK_SECONDS)
            warning = filling.result()
        except BaseException:
            stop.set()
            await asyncio.wait([filling])
            raise
        finally:
            self._stops.pop(key, None)
        await self.succeeded(volume, warning)

    async def succeeded(self, volume: Obj, warning: str = "") -> None:
        """The claim holds what it is to hold."""
        namespace, name = key_of(volume)
        await self._write(volume, SUCCEEDED, running=("False", "Completed", "Import Complete"), progress="100.0%")
        told = {"metadata": {"annotations": {"cdi.kubevirt.io/storage.pod.phase": SUCCEEDED}}}
        await self._client.patch(PVCS, name, told, namespace)
        kind = WORDS[kind_of(volume)]
        self._events.event(volume, EventType.NORMAL, f"{kind}Succeeded", f"Successfully filled PVC {name}")
        if warning:
            self._events.event(volume, EventType.WARNING, "UnknownContent", warning)

    async def _given(self, volume: Obj, needs: Needs) -> Needs:
        """Read the Secret and the ConfigMap that a source names."""
        namespace = volume["metadata"]["namespace"]
        found = copy.deepcopy(needs)
        for resource, wanted in ((SECRETS, found.secrets), (CONFIGMAPS, found.configmaps)):
            for name in wanted:
                try:
                    wanted[name] = await self._client.get(resource, name, namespace)
                except ApiError as error:
                    if not error.not_found:
                        raise
                    raise AgentError(f"{resource.kind} {name} does not exist yet; waiting for it") from None
        return found

    async def _failed(self, volume: Obj, error: AgentError, uid: str) -> float | None:
        fresh = self._volumes.get(*key_of(volume))
        if fresh is None or fresh["metadata"].get("deletionTimestamp"):
            return None
        message = str(error)
        log.warning("DataVolume %s/%s: %s", *key_of(volume), message)
        phase = str(read_status(fresh).get("phase") or PENDING) if error.retry else FAILED
        await self._write(volume, phase, running=("False", "Error", message), restarted=True)
        self._events.event(volume, EventType.WARNING, f"{WORDS[kind_of(volume)]}Failed", message)
        return self._backoff.failed(uid) if error.retry else None

    async def _write(
        self,
        volume: Obj,
        phase: str,
        *,
        running: tuple[str, str, str],
        progress: str | None = None,
        restarted: bool = False,
    ) -> None:
        namespace, name = key_of(volume)
        try:
            fresh = await self._client.get(DATAVOLUMES, name, namespace)
        except ApiError as error:
            if error.not_found:
                raise AgentError(f"DataVolume {namespace}/{name} was deleted") from None
            raise
        status = new_status(fresh, phase, running, progress or "N/A", restarted)
        if status != (fresh.get("status") or {}):
            await self._client.patch(DATAVOLUMES, name, {"status": status}, namespace, subresource="status")


class Progress:
    """How far a thread is, for a loop to read."""

    def __init__(self) -> None:
        self.text = "N/A"

    def tell(self, done: float) -> None:
        """Note how much is done, from 0 to 1."""
        self.text = f"{done * 100:.2f}%"


def kind_of(volume: Obj) -> str:
    """Return the kind of a DataVolume's source."""
    return next((kind for kind in WORDS if kind in (volume["spec"].get("source") or {})), "blank")


def volume_claim(volume: Obj) -> Obj:
    """Return as much of a DataVolume's claim as tells where it is made."""
    return {"metadata": volume["metadata"], "spec": volume["spec"].get("pvc") or volume["spec"].get("storage") or {}}


def claim_for(volume: Obj, source: Obj | None = None) -> Obj:
    """Return the claim that a DataVolume asks for; ``source`` is the claim that it clones, whose size is the least."""
    spec = volume["spec"]
    wanted: Obj = copy.deepcopy(spec.get("pvc") or spec.get("storage") or {})
    wanted.setdefault("accessModes", ["ReadWriteOnce"])
    wanted.setdefault("volumeMode", "Filesystem")
    if not nested(wanted, "resources", "requests").get("storage"):
        if source is None:
            pvc = nested(spec, "source").get("pvc") or {}
            raise AgentError(f"PersistentVolumeClaim {pvc.get('namespace')}/{pvc.get('name')} does not exist yet")
        wanted["resources"] = {"requests": {"storage": source["spec"]["resources"]["requests"]["storage"]}}
    metadata = volume["metadata"]
    owner = {
        "apiVersion": DATAVOLUMES.api_version,
        "kind": DATAVOLUMES.kind,
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "apiVersion": "v1",
        "kind": PVCS.kind,
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": dict(metadata.get("labels") or {}),
            "annotations": {CONTENT_TYPE: spec.get("contentType") or "kubevirt"},
            "ownerReferences": [owner],
        },
        "spec": wanted,
    }


def new_status(volume: Obj, phase: str, running: tuple[str, str, str], progress: str, restarted: bool) -> Obj:
    """Return a DataVolume's status after a step."""
    old = volume.get("status") or {}
    claim = str(volume["metadata"]["name"])
    conditions = {
        "Bound": ("False", "NotFound", "") if phase == PENDING else ("True", "Bound", f"PVC {claim} Bound"),
        "Ready": ("True" if phase == SUCCEEDED else "False", "", ""),
        "Running": running,
    }
    return {
        "claimName": claim,
        "phase": phase,
        "progress": progress if progress != "N/A" else old.get("progress", "N/A"),
        "restartCount": int(old.get("restartCount") or 0) + restarted,
        "conditions": [_condition(old, type_, *said) for type_, said in conditions.items()],
    }


def _condition(status: Obj, type_: str, value: str, reason: str, message: str) -> Obj:
    old: Obj = next((one for one in status.get("conditions") or [] if one.get("type") == type_), {})
    new = {"type": type_, "status": value, "reason": reason, "message": message[:1024]}
    if {key: old.get(key, "") for key in new} == new:
        return dict(old)
    changed = old.get("lastTransitionTime") if old.get("status") == value else None
    return {**new, "lastTransitionTime": changed or now(), "lastHeartbeatTime": now()}
