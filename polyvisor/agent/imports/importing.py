"""What an agent does where there is neither CDI nor a CSI driver: it fills DataVolumes and makes VolumeSnapshots."""

from __future__ import annotations

from asyncio import TaskGroup
from collections.abc import Callable
from pathlib import Path

from polyvisor.agent.images.store import ImageStore
from polyvisor.agent.imports.datavolumes import Claims, DataVolumeKeeper
from polyvisor.agent.imports.filling import Fetch, Filler
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
        claim_keeper: Claims,
        filler: Filler,
        taken: Informer | None = None,
        snapshots: SnapshotKeeper | None = None,
    ) -> None:
        """``snapshots`` keeps the snapshots of the claims, of which ``taken`` is the copy, where there are any."""
        self._settings = Informer(client, CDICONFIGS)
        self._volumes = Informer(client, DATAVOLUMES)
        self._taken, self._snapshots = taken, snapshots
        self.keeper = DataVolumeKeeper(client, events, self._volumes, claims, claim_keeper, filler)
        self.uploads = Uploads(client, filler, self._volumes, claims, claim_keeper, self.keeper)

    def insecure(self) -> set[str]:
        """Return the registries that need not prove who they are."""
        found = [nested(config, "spec").get("insecureRegistries") or [] for config in self._settings.items()]
        return {str(name) for names in found for name in names}

    async def start(self, group: TaskGroup) -> None:
        """Work, in the agent's group of tasks."""
        for informer in self._informers():
            await informer.start()
            await informer.synced()
        controller = Controller("datavolumes", self.keeper.queue, self.keeper.reconcile, WORKERS)
        group.create_task(controller.run(), name="agent-datavolumes")
        uploads = Controller("uploads", self.uploads.queue, self.uploads.reconcile, 1)
        group.create_task(uploads.run(), name="agent-uploads")
        if self._snapshots is not None:
            group.create_task(self._snapshots.recover(), name="agent-standing-still")
            snapshots = Controller("volume-snapshots", self._snapshots.queue, self._snapshots.reconcile, WORKERS)
            group.create_task(snapshots.run(), name="agent-snapshots")

    async def stop(self) -> None:
        """Stop looking."""
        for informer in self._informers():
            await informer.stop()

    def _informers(self) -> list[Informer]:
        return [self._settings, self._volumes, *([self._taken] if self._taken is not None else [])]


def importing_here(
    client: KubeClient,
    events: EventRecorder,
    claims: Informer,
    claim_keeper: ClaimKeeper,
    images: ImageStore,
    state: Path,
    vmis: Informer,
    link_of: Callable[[Obj], Link | None],
    fetch: Fetch,
) -> Importing:
    """Return what fills the claims of this machine, and keeps their snapshots; ``fetch`` brings disks of hosts."""
    taken = Informer(client, VOLUME_SNAPSHOTS)
    snapshots = SnapshotKeeper(client, events, taken, claims, vmis, claim_keeper, state, link_of)
    claim_keeper.fill = snapshots.fill
    filler = Filler(state / "volumes", lambda: images, claim_keeper.in_use, fetch)
    return Importing(client, events, claims, claim_keeper, filler, taken, snapshots)
