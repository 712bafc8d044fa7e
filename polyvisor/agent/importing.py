"""The part of CDI that an agent does where there is no CDI: its informers, its reconciler, its settings."""

from __future__ import annotations

from asyncio import TaskGroup
from pathlib import Path

from polyvisor.agent.claims import ClaimKeeper
from polyvisor.agent.datavolumes import DataVolumeKeeper
from polyvisor.agent.filling import Filler
from polyvisor.agent.images import ImageStore
from polyvisor.agent.uploads import Uploads
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
        volumes: Path,
    ) -> None:
        self._settings = Informer(client, CDICONFIGS)
        self._volumes = Informer(client, DATAVOLUMES)
        filler = Filler(volumes, images, claim_keeper.in_use)
        self.keeper = DataVolumeKeeper(client, events, self._volumes, claims, claim_keeper, filler)
        self.uploads = Uploads(client, filler, self._volumes, claims, claim_keeper, self.keeper)

    def insecure(self) -> set[str]:
        """Return the registries that need not prove who they are."""
        found = [nested(config, "spec").get("insecureRegistries") or [] for config in self._settings.items()]
        return {str(name) for names in found for name in names}

    async def start(self, group: TaskGroup) -> None:
        """Work, in the agent's group of tasks."""
        for informer in (self._settings, self._volumes):
            await informer.start()
            await informer.synced()
        controller = Controller("datavolumes", self.keeper.queue, self.keeper.reconcile, WORKERS)
        group.create_task(controller.run(), name="agent-datavolumes")
        uploads = Controller("uploads", self.uploads.queue, self.uploads.reconcile, 1)
        group.create_task(uploads.run(), name="agent-uploads")

    async def stop(self) -> None:
        """Stop looking."""
        await self._settings.stop()
        await self._volumes.stop()
