"""VolumeSnapshots of class ``local``: copies of claims' folders, made while whoever writes to them stands still.

All VolumeSnapshots of one content are taken together: every machine that has one of their claims open is paused, all
are copied, the machines go on. Where the file system can, no data are copied (reflinks), and a machine stands still for
milliseconds; else for as long as the copy takes. What isn't obvious: which machines are paused is written down first,
so that an agent that was killed meanwhile lets them go on when it is back.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from polyvisor.agent.backoff import StepBackoff
from polyvisor.agent.errors import AgentError, translated
from polyvisor.agent.files import safepath, tools
from polyvisor.agent.files.sparse import copy_sparse
from polyvisor.agent.imports.incoming import DISK, Incoming
from polyvisor.agent.link.connection import LauncherError, Link
from polyvisor.agent.storage import disks, making
from polyvisor.agent.storage.claims import ClaimKeeper
from polyvisor.api import Obj
from polyvisor.api.cluster_resources import VOLUME_SNAPSHOTS
from polyvisor.api.names import FINAL_PHASES, EventType, Phase
from polyvisor.api.owners import controller_of
from polyvisor.api.quantity import whole
from polyvisor.api.reading import nested, phase_of, read_status
from polyvisor.api.resources import PVCS, SNAPSHOT_CONTENTS
from polyvisor.api.snapshots import LOCAL_CLASS, is_ready, snapshot_of
from polyvisor.api.times import stamp
from polyvisor.kube import ApiError, EventRecorder, Informer, KubeClient, WorkQueue, key_of

Key = tuple[str, str]
FOLDER, SCRATCH, STANDING = "snapshots", ".making.", "standing-still"
FINALIZER = "hypervisor.kubevirt.io/volume-snapshot"
LOOK_SECONDS = 0.5
"""How soon to look again for a snapshot that is to be taken with others."""
log = logging.getLogger("polyvisor.snapshots")


class NotYet(AgentError):
    """A snapshot cannot be taken now; it is tried again."""


class SnapshotKeeper:
    """Reconciles VolumeSnapshots, and fills claims from them."""

    def __init__(
        self,
        client: KubeClient,
        events: EventRecorder,
        snapshots: Informer,
        claims: Informer,
        vmis: Informer,
        claim_keeper: ClaimKeeper,
        state: Path,
        link_of: Callable[[Obj], Link | None],
    ) -> None:
        self._client = client
        self._events = events
        self._snapshots, self._claims, self._vmis = snapshots, claims, vmis
        self._claim_keeper = claim_keeper
        self._volumes = state / "volumes"
        self._folder = state / FOLDER
        self._standing = state / STANDING
        self._link_of = link_of
        self._patience = StepBackoff()
        self._one_at_a_time = asyncio.Lock()
        self._filling: dict[Key, asyncio.Lock] = {}
        self.queue: WorkQueue[Key] = WorkQueue()
        snapshots.on_change(lambda old, new: self.queue.add(key_of(new or old or {})))

    async def recover(self) -> None:
        """Let machines go on that stood still when the agent ended; their launchers are waited for."""
        async with self._one_at_a_time:
            try:
                names = json.loads(await asyncio.to_thread(self._standing.read_text))
            except (FileNotFoundError, ValueError):
                return
            while names:
                names = [one for one in names if not await self._goes_on(*one)]
                if names:
                    await asyncio.sleep(LOOK_SECONDS)
            await asyncio.to_thread(self._standing.unlink, missing_ok=True)

    async def _goes_on(self, namespace: str, name: str) -> bool:
        """Let a machine go on; return whether it does, or is over."""
        vmi = self._vmis.get(namespace, name)
        if vmi is None or phase_of(vmi) in FINAL_PHASES:
            return True
        link = self._link_of(vmi)
        if link is None:
            return False
        try:
            if link.state.get("state") == "paused":
                await link.request("resume")
        except LauncherError as error:
            log.warning("machine %s/%s cannot be let go on: %s", namespace, name, error)
            return False
        return True

    async def reconcile(self, key: Key) -> float | None:
        """Take one VolumeSnapshot, or remove what it holds; return the seconds after which to look again."""
        snapshot = self._snapshots.get(*key)
        if snapshot is None or snapshot["spec"].get("volumeSnapshotClassName") not in (None, LOCAL_CLASS):
            return None
        uid = str(snapshot["metadata"]["uid"])
        if snapshot["metadata"].get("deletionTimestamp"):
            self._patience.worked(uid)
            await self._remove(snapshot)
            return None
        if is_ready(snapshot):
            return None
        if left := self._patience.left(uid):
            return left
        async with self._one_at_a_time:
            snapshot = await self._client.get(VOLUME_SNAPSHOTS, key[1], key[0])
            if is_ready(snapshot):
                return None
            group = await self._group(snapshot)
            if group is None:
                return LOOK_SECONDS
            try:
                await self._take(group)
            except NotYet as error:
                log.info("VolumeSnapshot %s/%s: %s", *key, error)
                return self._patience.failed(uid)
            except (AgentError, LauncherError) as error:
                for one in group:
                    await self._failed(one, str(error))
                return self._patience.failed(uid)
        self._patience.worked(uid)
        return None

    async def _group(self, snapshot: Obj) -> list[Obj] | None:
        """Return the VolumeSnapshots that are to be taken together; None while some are not there yet."""
        owner, namespace = controller_of(snapshot), snapshot["metadata"]["namespace"]
        if owner is None or owner.get("kind") != SNAPSHOT_CONTENTS.kind:
            return [snapshot]
        try:
            content = await self._client.get(SNAPSHOT_CONTENTS, owner["name"], namespace)
        except ApiError as error:
            if error.not_found:
                return [snapshot]
            raise
        found = []
        for backup in content["spec"].get("volumeBackups") or []:
            one = self._snapshots.get(namespace, str(backup.get("volumeSnapshotName")))
            claim = self._claims.get(namespace, backup["persistentVolumeClaim"]["metadata"]["name"])
            if one is None and claim is not None:
                return None
            if one is not None and not is_ready(one) and one["spec"].get("volumeSnapshotClassName") == LOCAL_CLASS:
                found.append(one)
        return found or [snapshot]

    async def _take(self, group: Sequence[Obj]) -> None:
        claims = [self._claim_of(one) for one in group]
        for one in group:
            await self._hold(one)
        async with self._standing_still({key_of(claim) for claim in claims}):
            for one, claim in zip(group, claims, strict=True):
                await asyncio.to_thread(self._copy, one, claim)
        at = stamp()
        for one, claim in zip(group, claims, strict=True):
            size = claim["spec"]["resources"]["requests"]["storage"]
            status = {"readyToUse": True, "creationTime": at, "restoreSize": size, "error": None}
            await self._write(one, status)
            name = claim["metadata"]["name"]
            self._events.event(one, EventType.NORMAL, "SnapshotCreated", f"PersistentVolumeClaim {name} was copied")

    def _claim_of(self, snapshot: Obj) -> Obj:
        namespace, source = snapshot["metadata"]["namespace"], nested(snapshot, "spec", "source")
        name = str(source.get("persistentVolumeClaimName") or "")
        if not name:
            raise AgentError("spec.source.persistentVolumeClaimName is required: snapshots are made of claims here")
        claim = self._claims.get(namespace, name)
        if claim is None:
            raise NotYet(f"PersistentVolumeClaim {namespace}/{name} does not exist")
        if claim["spec"].get("volumeName") or phase_of(claim) != "Bound":
            raise NotYet(f"PersistentVolumeClaim {namespace}/{name} is not bound to a volume of this machine")
        return claim

    @asynccontextmanager
    async def _standing_still(self, claims: set[Key]) -> AsyncIterator[None]:
        """Pause the machines that write to any of the claims, and let them go on in the end."""
        links: dict[Key, Link] = {}
        for vmi in self._vmis.items():
            namespace = vmi["metadata"]["namespace"]
            used = {(namespace, name) for name in making.needed(vmi).claims} & claims
            if not used or phase_of(vmi) in FINAL_PHASES:
                continue
            link = self._link_of(vmi)
            if link is None or not link.active or phase_of(vmi) != Phase.RUNNING:
                what = f"VirtualMachineInstance {namespace}/{vmi['metadata']['name']}"
                raise NotYet(f"{what} uses claim {min(used)[1]} and is neither running nor over; it is waited for")
            if link.state.get("state") != "paused":
                links[key_of(vmi)] = link
        if not links:
            yield
            return
        await asyncio.to_thread(safepath.write_atomic, self._standing, json.dumps(sorted(links)).encode())
        try:
            for link in links.values():
                await link.request("pause")
            yield
        finally:
            for key, link in links.items():
                try:
                    await link.request("resume")
                except LauncherError as error:
                    log.error("machine %s/%s cannot be let go on: %s", *key, error)
            await asyncio.to_thread(self._standing.unlink, missing_ok=True)

    def _copy(self, snapshot: Obj, claim: Obj) -> None:
        """Copy a claim's folder: its disk with its holes, or else its tree of files."""
        namespace, name = key_of(claim)
        uid = str(snapshot["metadata"]["uid"])
        home = self._folder / namespace
        doing = f"making a snapshot of claim {namespace}/{name}"
        with translated(home, doing):
            with safepath.opened_root(home, create=True) as top:
                safepath.remove(top, SCRATCH + uid)
                safepath.remove(top, uid)
                os.mkdir(SCRATCH + uid, 0o700, dir_fd=top)
            scratch = home / (SCRATCH + uid)
            try:
                self._fill(namespace, name, scratch, doing)
                scratch.rename(home / uid)
            except BaseException:
                safepath.remove_path(scratch)
                raise

    def _fill(self, namespace: str, name: str, scratch: Path, doing: str) -> None:
        with safepath.opened_root(self._volumes) as top:
            try:
                disk = safepath.open_file(top, [namespace, name, DISK])
            except FileNotFoundError:
                folder = disks.claim_folder(self._volumes, namespace, name)
                tools.run(["cp", "-ax", "--reflink=auto", "-T", "--", folder, scratch / "root"], doing, scratch)
                return
        try:
            with (scratch / DISK).open("xb") as file:
                copy_sparse(disk, file.fileno())
                os.fsync(file.fileno())
        finally:
            os.close(disk)

    async def fill(self, claim: Obj) -> None:
        """Fill a claim that names a VolumeSnapshot; does nothing for others. Raises :class:`AgentError`."""
        name = snapshot_of(claim)
        if not name:
            return
        namespace = claim["metadata"]["namespace"]
        async with self._filling.setdefault(key_of(claim), asyncio.Lock()):
            fresh = await self._client.get(PVCS, claim["metadata"]["name"], namespace)
            if phase_of(fresh) != "Bound":
                await self._filled(claim, namespace, name)

    async def _filled(self, claim: Obj, namespace: str, name: str) -> None:
        try:
            snapshot = await self._client.get(VOLUME_SNAPSHOTS, name, namespace)
        except ApiError as error:
            if error.not_found:
                raise AgentError(f"VolumeSnapshot {namespace}/{name} does not exist") from None
            raise
        if not is_ready(snapshot):
            raise AgentError(f"VolumeSnapshot {namespace}/{name} is not ready yet; it is waited for")
        await asyncio.to_thread(self._restore, snapshot, claim)

    def _restore(self, snapshot: Obj, claim: Obj) -> None:
        namespace, uid = snapshot["metadata"]["namespace"], str(snapshot["metadata"]["uid"])
        called = f"VolumeSnapshot {namespace}/{snapshot['metadata']['name']}"
        size = int(whole(claim["spec"]["resources"]["requests"]["storage"]))
        held = self._folder / namespace / uid
        into = Incoming(self._volumes, namespace, claim["metadata"]["name"], size, called, stop=threading.Event())
        with into, safepath.opened_root(self._folder) as top:
            try:
                disk = safepath.open_file(top, [namespace, uid, DISK])
            except FileNotFoundError:
                into.copy_tree(held / "root")
                return
            try:
                into.copy(disk)
            finally:
                os.close(disk)

    async def _remove(self, snapshot: Obj) -> None:
        finalizers = snapshot["metadata"].get("finalizers") or []
        if FINALIZER not in finalizers:
            return
        await asyncio.to_thread(self._removed, *key_of(snapshot)[:1], str(snapshot["metadata"]["uid"]))
        rest = [one for one in finalizers if one != FINALIZER]
        await self._patch(snapshot, {"metadata": {"finalizers": rest}})

    def _removed(self, namespace: str, uid: str) -> None:
        home = self._folder / namespace
        with translated(home, "removing a snapshot"):
            safepath.remove_path(home / uid)
            safepath.remove_path(home / (SCRATCH + uid))

    async def _hold(self, snapshot: Obj) -> None:
        finalizers = snapshot["metadata"].get("finalizers") or []
        if FINALIZER not in finalizers:
            await self._patch(snapshot, {"metadata": {"finalizers": [*finalizers, FINALIZER]}})

    async def _failed(self, snapshot: Obj, message: str) -> None:
        log.warning("VolumeSnapshot %s/%s: %s", *key_of(snapshot), message)
        if nested(snapshot, "status", "error").get("message") != message:
            error = {"message": message[:1024], "time": stamp()}
            await self._write(snapshot, {"readyToUse": False, "error": error})
        self._events.event(snapshot, EventType.WARNING, "SnapshotFailed", message)

    async def _write(self, snapshot: Obj, status: Obj) -> None:
        await self._patch(snapshot, {"status": {**read_status(snapshot), **status}}, subresource="status")

    async def _patch(self, snapshot: Obj, change: Obj, subresource: str | None = None) -> None:
        namespace, name = key_of(snapshot)
        try:
            await self._client.patch(VOLUME_SNAPSHOTS, name, change, namespace, subresource=subresource)
        except ApiError as error:
            if not error.not_found:
                raise
