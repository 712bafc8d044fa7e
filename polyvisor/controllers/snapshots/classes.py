"""Which VolumeSnapshotClass makes snapshots of a claim: the one of the driver behind the claim's StorageClass.

A cluster may have no such classes, or not even their kind. The answer is kept for a while, because the status of every
virtual machine asks for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from polyvisor.api.cluster_resources import STORAGE_CLASSES, VOLUME_SNAPSHOT_CLASSES
from polyvisor.api.reading import annotations_of, nested
from polyvisor.api.volumes import claim_of
from polyvisor.kube import ApiError, Informer, KubeClient

if TYPE_CHECKING:
    from polyvisor.api import Obj
    from polyvisor.api.resources import Resource

UNSUPPORTED = "Snapshot is not supported for this volumeSource type [{}]"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
DEFAULT_SNAPSHOT_CLASS = "snapshot.storage.kubernetes.io/is-default-class"
KEPT_SECONDS = 30.0


class SnapshotClasses:
    """The classes of a cluster, as they were a short while ago."""

    def __init__(self, client: KubeClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._read_at: float | None = None
        self._storage: list[Obj] = []
        self._snapshot: list[Obj] = []

    async def refresh(self) -> None:
        """Read the classes again if what is known is old."""
        if self._read_at is not None and self._clock() - self._read_at < KEPT_SECONDS:
            return
        self._storage = await self._listed(STORAGE_CLASSES)
        self._snapshot = await self._listed(VOLUME_SNAPSHOT_CLASSES)
        self._read_at = self._clock()

    async def _listed(self, resource: Resource) -> list[Obj]:
        try:
            return await self._client.list(resource)
        except ApiError as error:
            if error.not_found:
                return []
            raise

    def why_none(self, volume: str, claim: Obj | None) -> str:
        """Return why a volume with that claim cannot be snapshotted, empty if it can. KubeVirt's words."""
        if claim is None:
            return "PVC not found"
        if self.of(claim):
            return ""
        name = self._storage_class(claim)
        told = name["metadata"]["name"] if name else claim["spec"].get("storageClassName") or ""
        what = "No VolumeSnapshotClass: Volume snapshots are not configured for this StorageClass"
        return f"{what} [{told}] [{volume}]"

    def of(self, claim: Obj) -> str:
        """Return the name of the class that makes snapshots of a claim, empty if there is none."""
        storage = self._storage_class(claim)
        matching = [one for one in self._snapshot if storage and one.get("driver") == storage.get("provisioner")]
        preferred = [one for one in matching if DEFAULT_SNAPSHOT_CLASS in annotations_of(one)]
        return str((preferred or matching)[0]["metadata"]["name"]) if matching else ""

    def _storage_class(self, claim: Obj) -> Obj | None:
        name = claim["spec"].get("storageClassName")
        if name:
            return next((one for one in self._storage if one["metadata"]["name"] == name), None)
        if claim["spec"].get("volumeName"):
            return None  # made by hand, of no class
        return next((one for one in self._storage if annotations_of(one).get(DEFAULT_CLASS) == "true"), None)


class SnapshotSupport:
    """Which volumes of a virtual machine can be snapshotted, for its status."""

    def __init__(self, classes: SnapshotClasses, claims: Informer) -> None:
        self._classes = classes
        self._claims = claims

    async def statuses(self, vm: Obj) -> list[Obj]:
        """Return ``status.volumeSnapshotStatuses``."""
        volumes = nested(vm, "spec", "template", "spec").get("volumes") or []
        if any(claim_of(volume) for volume in volumes):
            await self._classes.refresh()
        return [self._status(vm["metadata"]["namespace"], volume) for volume in volumes if volume.get("name")]

    def _status(self, namespace: str, volume: Obj) -> Obj:
        name, claim = volume["name"], "" if "ephemeral" in volume else claim_of(volume)
        found = self._claims.get(namespace, claim) if claim else None
        why = self._classes.why_none(name, found) if claim else UNSUPPORTED.format(name)
        return {"name": name, "enabled": False, "reason": why} if why else {"name": name, "enabled": True}
