"""Uploads into claims, as CDI takes them: which claims wait for one, and the bytes on their way into one.

A DataVolume with the source ``upload`` waits for one, and so does a claim of its own with CDI's annotation. What isn't
obvious: an upload that is cut off leaves nothing, and its claim waits for the next.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

from polyvisor.agent.errors import AgentError
from polyvisor.agent.imports.datavolumes import CONTENT_TYPE, SUCCEEDED, UPLOAD_READY, Claims, DataVolumeKeeper, kind_of
from polyvisor.agent.imports.filling import ARCHIVE, Filler
from polyvisor.api import Obj
from polyvisor.api.reading import read_status
from polyvisor.api.resources import PVCS
from polyvisor.kube import Informer, KubeClient, WorkQueue, key_of

Key = tuple[str, str]
TARGET = "cdi.kubevirt.io/storage.upload.target"
PHASE = "cdi.kubevirt.io/storage.pod.phase"
IS_READY = "cdi.kubevirt.io/storage.pod.ready"
PIECE = 1024 * 1024
"""How many bytes are handed over at a time."""


class Uploads:
    """Which claims take uploads, and taking them."""

    def __init__(
        self,
        client: KubeClient,
        filler: Filler,
        volumes: Informer,
        claims: Informer,
        claim_keeper: Claims,
        keeper: DataVolumeKeeper,
    ) -> None:
        self._client = client
        self._filler = filler
        self._volumes = volumes
        self._claims = claims
        self._claim_keeper = claim_keeper
        self._keeper = keeper
        self._busy: set[Key] = set()
        self.queue: WorkQueue[Key] = WorkQueue()
        claims.on_change(lambda old, new: self.queue.add(key_of(new or old or {})))

    async def reconcile(self, key: Key) -> None:
        """Show a claim that asks for an upload as ready for one."""
        claim = self._claims.get(*key)
        if claim is None or claim["metadata"].get("deletionTimestamp") or not _asks(claim):
            return
        if PHASE not in _annotations(claim) and await self._claim_keeper.holds(claim):
            await self._claim_keeper.bind(claim)
            await self._annotate(key, {PHASE: "Running", IS_READY: "true"})

    async def has(self, namespace: str, name: str) -> bool:
        """Whether a claim is one of those that are filled here."""
        claim = self._claims.get(namespace, name)
        return claim is not None and await self._claim_keeper.holds(claim)

    def waits(self, namespace: str, name: str) -> Obj:
        """Return a claim that waits for an upload; refuse another."""
        claim = self._claims.get(namespace, name)
        if claim is None:
            raise AgentError(f"PersistentVolumeClaim {namespace}/{name} does not exist")
        volume = self._volumes.get(namespace, name)
        if volume is not None and kind_of(volume) == "upload":
            if read_status(volume).get("phase") == UPLOAD_READY:
                return claim
        elif _asks(claim) and _annotations(claim).get(PHASE) != SUCCEEDED:
            return claim
        raise AgentError(f"PersistentVolumeClaim {namespace}/{name} does not wait for an upload")

    async def receive(self, namespace: str, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Take an upload; raise :class:`AgentError` where that cannot be."""
        claim, key = self.waits(namespace, name), (namespace, name)
        if key in self._busy:
            raise AgentError(f"an upload into PersistentVolumeClaim {namespace}/{name} is under way")
        self._busy.add(key)
        try:
            warning = await self._take(claim, chunks)
        finally:
            self._busy.discard(key)
        volume = self._volumes.get(*key)
        if volume is not None:
            await self._keeper.succeeded(volume, warning)
        else:
            await self._annotate(key, {PHASE: SUCCEEDED, IS_READY: "false"})

    async def _take(self, claim: Obj, chunks: AsyncIterator[bytes]) -> str:
        archive = _annotations(claim).get(CONTENT_TYPE) == ARCHIVE
        into = self._filler.incoming(claim, "the upload", archive, lambda _: None, threading.Event())
        await asyncio.to_thread(into.__enter__)
        try:
            waiting = bytearray()
            async for chunk in chunks:
                waiting += chunk
                if len(waiting) >= PIECE:
                    await asyncio.to_thread(into.write, bytes(waiting))
                    waiting.clear()
            if waiting:
                await asyncio.to_thread(into.write, bytes(waiting))
            await asyncio.to_thread(into.finish)
            await asyncio.to_thread(self._filler.deliver, claim, lambda _: None, threading.Event())
            return into.warning
        finally:
            await asyncio.to_thread(into.__exit__, None, None, None)

    async def _annotate(self, key: Key, annotations: dict[str, str]) -> None:
        namespace, name = key
        await self._client.patch(PVCS, name, {"metadata": {"annotations": annotations}}, namespace)


def _annotations(claim: Obj) -> dict[str, str]:
    return claim["metadata"].get("annotations") or {}


def _asks(claim: Obj) -> bool:
    return TARGET in _annotations(claim)
