"""What an agent does where there is neither CDI nor a CSI driver: it fills DataVolumes and makes VolumeSnapshots."""

from __future__ import annotations

from asyncio import TaskGroup
from collections.abc import Callable
from pathlib import Path

from polyvisor.agent.images.store import ImageStore
from polyvisor.agent.imports.datavolumes import DataVolumeKeeper
from polyvisor.agent.imports.filling import Filler
from polyvisor.agent.imports.snapshots import SnapshotKeeper
from polyvisor.agent.imports.uploads import Uploads
from polyvisor.agent.link.connection import Link
from polyvisor.agent.storage.claims import ClaimKeeper
from polyvisor.api import Obj
from polyvisor.api.cluster_resources import VOLUME_SNAPSHOTS
from polyvisor.api.reading import nested
from polyvisor.api.resources import CDICONFIGS, DATAVOLUMES
from polyvisor.kube import Controller, EventRecorder, Informer, KubeClient

WORKERS = 3
"""How many volumes are filled at once."""


class Importing:
    """Owned by the agent; runs between :meth:`start` and :meth:`stop`."""

    def __init__(
        self,
        client: KubeClient,
        events: EventRecorder,
        claims: Informer,
        claim_keeper: ClaimKeeper,
        images: ImageStore,
        state: Path,
        vmis: Informer,
        link_of: Callable[[Obj], Link | None],
    ) -> None:
        volumes = state / "volumes"
        self._settings = Informer(client, CDICONFIGS)
        self._volumes = Informer(client, DATAVOLUMES)
        self._taken = Informer(client, VOLUME_SNAPSHOTS)
        self._snapshots = SnapshotKeeper(client, events, self._taken, claims, vmis, claim_keeper, state, link_of)
        claim_keeper.fill = self._snapshots.fill
        filler = Filler(volumes, images, claim_keeper.in_use)
        self.keeper = DataVolumeKeeper(client, events, self._volumes, claims, claim_keeper, filler)
        self.uploads = Uploads(client, filler, self._volumes, claims, claim_keeper, self.keeper)

    def insecure(self) -> set[str]:
        """Return the registries that need not prove who they are."""
        found = [nested(config, "spec").get("insecureRegistries") or [] for config in self._settings.items()]
        return {str(name) for names in found for name in names}

    async def start(self, group: TaskGroup) -> None:
        """Work, in the agent's group of tasks."""
        for informer in (self._settings, self._volumes, self._taken):
            await informer.start()
            await informer.synced()
        controller = Controller("datavolumes", self.keeper.queue, self.keeper.reconcile, WORKERS)
        group.create_task(controller.run(), name="agent-datavolumes")
        uploads = Controller("uploads", self.uploads.queue, self.uploads.reconcile, 1)
        group.create_task(uploads.run(), name="agent-uploads")
        group.create_task(self._snapshots.recover(), name="agent-standing-still")
        snapshots = Controller("volume-snapshots", self._snapshots.queue, self._snapshots.reconcile, WORKERS)
        group.create_task(snapshots.run(), name="agent-snapshots")

    async def stop(self) -> None:
        """Stop looking."""
        await self._settings.stop()
        await self._volumes.stop()
        await self._taken.stop()
