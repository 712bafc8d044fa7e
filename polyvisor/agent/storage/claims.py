"""The claims whose folders are on this node: when they are bound, and that their folders are removed when they go.

A claim is bound when a machine uses it; at once where this node is the only one and has the volumes to itself, because
clients wait for that before they make the machine.

A claim is held by a finalizer of ours before its folder is made. So a folder is only ever removed because a user
deleted its claim, and no machine has it open any more; never because a claim is not known, as it would be with a new
database.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from polyvisor.agent.errors import AgentError
from polyvisor.agent.files import safepath
from polyvisor.agent.named import named
from polyvisor.agent.storage import making
from polyvisor.api import Obj
from polyvisor.api.cluster_resources import STORAGE_CLASSES
from polyvisor.api.names import FINAL_PHASES, VOLUME_FINALIZER
from polyvisor.api.node_names import ENDPOINT_CSI_DRIVER
from polyvisor.api.owners import controller_uid
from polyvisor.api.reading import nested, read_status
from polyvisor.api.resources import PVCS, VMIS
from polyvisor.kube import ApiError, Informer, KubeClient, WorkQueue, key_of

Key = tuple[str, str]
BOUND = {"pv.kubernetes.io/bind-completed": "yes"}
"""What every bound claim of a cluster is annotated with, so that clients count on annotations."""
AGAIN_SECONDS = 2.0
log = logging.getLogger("polyvisor.claims")


async def _nothing(_: Obj) -> None:
    """Leave a claim empty."""


async def claims_of(client: KubeClient, vmi: Obj) -> dict[str, Obj]:
    """Return the claims that a machine names and that exist, by name."""
    return await named(client, PVCS, making.needed(vmi).claims, vmi["metadata"]["namespace"])


class ClaimKeeper:
    """Binds claims, and reconciles those that are being deleted."""

    def __init__(
        self,
        client: KubeClient,
        claims: Informer,
        pods: Informer,
        vmis: Informer,
        volumes: Path,
        at_once: bool = False,
    ) -> None:
        self._client = client
        self._claims = claims
        self._pods = pods
        self._vmis = vmis
        self._volumes = volumes
        self._at_once = at_once
        self.fill: Callable[[Obj], Awaitable[None]] = _nothing
        """What fills a claim that is made from something else, before it is bound."""
        self.queue: WorkQueue[Key] = WorkQueue()
        claims.add_index("leaving", lambda claim: ["yes"] if _leaving(claim) else [])
        claims.on_change(lambda old, new: self.queue.add(key_of(new or old or {})))
        pods.on_change(self._pod_changed)

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        for claim in self._claims.by_index("leaving", "yes"):
            self.queue.add(key_of(claim))

    async def holds(self, claim: Obj) -> bool:
        """Whether a claim's class is one whose places are folders of this node."""
        return not await self._made_on_a_host(claim)

    async def bind(self, claim: Obj) -> None:
        """Hold a claim, and say that it is bound."""
        while True:
            try:
                return await self._bind(claim)
            except ApiError as error:
                if not error.conflict:
                    raise
                metadata = claim["metadata"]
                claim = await self._client.get(PVCS, metadata["name"], metadata["namespace"])

    async def _bind(self, claim: Obj) -> None:
        metadata = claim["metadata"]
        name, namespace = metadata["name"], metadata["namespace"]
        held = VOLUME_FINALIZER in (metadata.get("finalizers") or [])
        if _elsewhere(claim):
            volume = claim["spec"]["volumeName"]
            what = f"PersistentVolumeClaim {namespace}/{name} is bound to PersistentVolume {volume}"
            raise AgentError(f"{what}, which is not on this node; run the machine on the endpoint that has it")
        if metadata.get("deletionTimestamp"):
            raise AgentError(f"PersistentVolumeClaim {namespace}/{name} is being deleted")
        if not held:
            finalizers = [*(metadata.get("finalizers") or []), VOLUME_FINALIZER]
            version = metadata["resourceVersion"]
            change = {"finalizers": finalizers, "annotations": BOUND, "resourceVersion": version}
            await self._client.patch(PVCS, name, {"metadata": change}, namespace)
        if read_status(claim).get("phase") != "Bound":
            await self.fill(claim)
            spec = claim["spec"]
            requests = nested(spec, "resources").get("requests") or {}
            bound = {"phase": "Bound", "accessModes": spec.get("accessModes") or [], "capacity": requests}
            await self._client.patch(PVCS, name, {"status": bound}, namespace, subresource="status")

    async def reconcile(self, key: Key) -> float | None:
        """Bind a new claim; remove the folder of one that is being deleted and that no Pod uses, and let go of it."""
        claim = self._claims.get(*key)
        if claim is not None and self._at_once and _new(claim):
            if not await self._made_on_a_host(claim):
                try:
                    await self.bind(claim)
                except AgentError as error:
                    log.warning("claim %s/%s is not bound yet: %s", *key, error)
                    return AGAIN_SECONDS
            return None
        if claim is None or not _leaving(claim) or self.in_use(*key):
            return None
        namespace, name = key
        await asyncio.to_thread(self._remove, namespace, name)
        log.info("claim %s/%s was deleted; its folder is gone", namespace, name)
        rest = [one for one in claim["metadata"]["finalizers"] if one != VOLUME_FINALIZER]
        change = {"metadata": {"finalizers": rest, "resourceVersion": claim["metadata"]["resourceVersion"]}}
        try:
            await self._client.patch(PVCS, name, change, namespace)
        except ApiError as error:
            if not error.not_found:
                raise
        return None

    async def _made_on_a_host(self, claim: Obj) -> bool:
        """Whether volumes of a claim's class are made on endpoints' hosts, so that this node has no folder for it."""
        name = claim["spec"].get("storageClassName")
        if not name:
            return False
        try:
            found = await self._client.get(STORAGE_CLASSES, name)
        except ApiError as error:
            if error.not_found:
                return False
            raise
        return bool(found.get("provisioner") == ENDPOINT_CSI_DRIVER)

    def in_use(self, namespace: str, name: str) -> bool:
        """Whether a machine of this node may have a claim open."""
        for pod in self._pods.items():
            if pod["metadata"]["namespace"] != namespace or read_status(pod).get("phase") in FINAL_PHASES:
                continue
            machines = self._vmis.by_index("uid", controller_uid(pod, VMIS.kind))
            if not machines or any(name in making.needed(vmi).claims for vmi in machines):
                return True  # a Pod whose machine is not known may use anything
        return False

    def _remove(self, namespace: str, name: str) -> None:
        with (
            suppress(FileNotFoundError),
            safepath.opened_root(self._volumes) as top,
            safepath.walk(top, [namespace]) as at,
        ):
            safepath.remove(at, name)


def _leaving(claim: Obj) -> bool:
    metadata = claim["metadata"]
    return bool(metadata.get("deletionTimestamp")) and VOLUME_FINALIZER in (metadata.get("finalizers") or [])


def _new(claim: Obj) -> bool:
    if claim["metadata"].get("deletionTimestamp") or _elsewhere(claim):
        return False
    return read_status(claim).get("phase") != "Bound"


def _elsewhere(claim: Obj) -> bool:
    """Whether a claim is for a PersistentVolume, which is a disk on another host: those made here have none."""
    return bool(claim["spec"].get("volumeName"))
