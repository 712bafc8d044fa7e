"""Static volumes: what Kubernetes' PersistentVolume controller does for a claim and the one volume that names it.

Volume and claim name each other (``claimRef``, ``volumeName``), or one of them does. The claims that the agent of this
machine makes room for have no volume, and are not touched. Nothing is deleted here but the finalizers that keep what is
in use: what was a disk on a host before stays one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from polyvisor.api import Obj
from polyvisor.api.cluster_resources import PVS
from polyvisor.api.names import FINAL_PHASES, EventType
from polyvisor.api.quantity import parse_quantity
from polyvisor.api.reading import nested, read_status
from polyvisor.api.resources import PODS, PVCS, VMIS
from polyvisor.api.volumes import claims_of
from polyvisor.kube import ApiError, Controller, EventRecorder, Informer, KubeClient, WorkQueue

VOLUME_FINALIZER = "kubernetes.io/pv-protection"
CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
ANNOTATIONS = {"pv.kubernetes.io/bind-completed": "yes"}
COMPONENT = "persistentvolume-controller"
_NAMED, _MEANT = "named", "meant"


@dataclass(frozen=True, slots=True)
class Match:
    """A volume's phase to be, the claim that it is bound to, or why the claim that wants it does not get it."""

    phase: str
    claim: Obj | None = None
    refused: str = ""


def match(volume: Obj, claim: Obj | None) -> Match:
    """Say what phase a volume is in; ``claim`` is the one that its claimRef names, or that names it. Pure."""
    reference = volume["spec"].get("claimRef") or {}
    bound = reference.get("uid")
    if bound and (claim is None or claim["metadata"]["uid"] != bound):
        return Match("Released")
    if claim is None or (claim["spec"].get("volumeName") or "") not in ("", volume["metadata"]["name"]):
        return Match("Available")
    if bound:
        return Match("Bound", claim)
    taken = read_status(claim).get("phase") == "Bound" and not claim["spec"].get("volumeName")
    if claim["metadata"].get("deletionTimestamp") or taken:  # taken: it has a folder on this machine
        return Match("Available")
    if why := mismatch(volume, claim):
        return Match("Available", claim, why)
    return Match("Bound", claim)


def mismatch(volume: Obj, claim: Obj) -> str:
    """Say why a claim cannot be met by a volume; empty if it can."""
    has, wants = volume["spec"], claim["spec"]
    pairs = (("storageClassName", ""), ("volumeMode", "Filesystem"))
    for name, usual in pairs:
        if (has.get(name) or usual) != (wants.get(name) or usual):
            return f"{name} of the volume is {has.get(name)!r}, of the claim {wants.get(name)!r}"
    lacking = [mode for mode in wants.get("accessModes") or [] if mode not in (has.get("accessModes") or [])]
    if lacking:
        return f"the volume does not have access mode {lacking[0]}"
    size = nested(has, "capacity").get("storage", "0")
    wanted = nested(wants, "resources", "requests").get("storage", "0")
    if parse_quantity(size) < parse_quantity(wanted):
        return f"the volume has {size}, and the claim requests {wanted}"
    return ""


class VolumeBinder:
    """Binds, and follows what is bound; the informers are run by the owner."""

    def __init__(
        self,
        client: KubeClient,
        recorder: EventRecorder,
        *,
        volumes: Informer,
        claims: Informer,
        pods: Informer,
        vmis: Informer,
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._volumes, self._claims, self._pods, self._vmis = volumes, claims, pods, vmis
        self.queue: WorkQueue[str] = WorkQueue()
        self._controller = Controller(COMPONENT, self.queue, self.reconcile, workers=1)
        claims.add_index(_NAMED, lambda claim: [name] if (name := claim["spec"].get("volumeName")) else [])
        volumes.add_index(_MEANT, lambda volume: [_meant(volume)] if _meant(volume) else [])
        volumes.on_change(lambda old, new: self.queue.add((new or old or {})["metadata"]["name"]))
        claims.on_change(self._claim_changed)
        pods.on_change(lambda old, new: self._user_gone(new or old or {}))
        vmis.on_change(lambda old, new: self._user_gone(new or old or {}))

    async def run(self) -> None:
        """Work until cancelled."""
        await self._controller.run()

    async def reconcile(self, name: str) -> None:
        """Bring one volume in line with its claim."""
        volume: Obj | None = self._volumes.get(None, name)
        named = sorted(self._claims.by_index(_NAMED, name), key=lambda one: one["metadata"]["creationTimestamp"])
        if volume is None:
            for claim in named:
                await self._lost(claim, name)
            return
        found = match(volume, await self._claim(volume, named))
        if found.refused and found.claim is not None:
            message = f"Cannot bind to requested volume {name!r}: {found.refused}"
            self._recorder.event(found.claim, EventType.WARNING, "VolumeMismatch", message)
        elif found.phase == "Bound" and found.claim is not None:
            await self._bind(volume, found.claim)
            return
        await self._status(PVS, volume, {"phase": found.phase})
        if volume["metadata"].get("deletionTimestamp"):
            await self._release(PVS, volume, VOLUME_FINALIZER)

    async def _claim(self, volume: Obj, named: list[Obj]) -> Obj | None:
        """Return the claim that a volume is for; that it is gone the API server itself has to say."""
        reference = volume["spec"].get("claimRef")
        if not reference:
            return named[0] if named else None
        found = self._claims.get(reference["namespace"], reference["name"])
        if found is not None or not reference.get("uid"):
            return found
        try:
            return await self._client.get(PVCS, reference["name"], reference["namespace"])
        except ApiError as error:
            if error.not_found:
                return None
            raise

    async def _bind(self, volume: Obj, claim: Obj) -> None:
        """Write into both that they are bound, what is not there yet; let go of a claim that nobody uses any more."""
        metadata, spec = claim["metadata"], volume["spec"]
        if claim["metadata"].get("deletionTimestamp"):
            if not self._used(claim):
                await self._release(PVCS, claim, CLAIM_FINALIZER)
            return
        if not nested(spec, "claimRef").get("uid"):
            reference = {
                "apiVersion": "v1",
                "kind": PVCS.kind,
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            }
            volume = await self._patch(PVS, volume, {"spec": {"claimRef": reference}})
        await self._status(PVS, volume, {"phase": "Bound"})
        change: Obj = {"metadata": {}}
        if not ANNOTATIONS.items() <= (metadata.get("annotations") or {}).items():
            change["metadata"]["annotations"] = ANNOTATIONS
        if CLAIM_FINALIZER not in (metadata.get("finalizers") or []):
            change["metadata"]["finalizers"] = [*(metadata.get("finalizers") or []), CLAIM_FINALIZER]
        if claim["spec"].get("volumeName") != volume["metadata"]["name"]:
            change["spec"] = {"volumeName": volume["metadata"]["name"]}
        if change != {"metadata": {}}:
            claim = await self._patch(PVCS, claim, change)
        status = {"phase": "Bound", "accessModes": spec.get("accessModes") or [], "capacity": spec["capacity"]}
        await self._status(PVCS, claim, status)

    async def _lost(self, claim: Obj, name: str) -> None:
        """Say of a bound claim that its volume is gone."""
        if read_status(claim).get("phase") == "Bound":
            message = f"Bound claim has lost its PersistentVolume {name!r}"
            self._recorder.event(claim, EventType.WARNING, "ClaimLost", message)
            await self._status(PVCS, claim, {"phase": "Lost"})
        if claim["metadata"].get("deletionTimestamp") and not self._used(claim):
            await self._release(PVCS, claim, CLAIM_FINALIZER)

    def _used(self, claim: Obj) -> bool:
        """Whether a machine, or a Pod that has not ended, has the claim among its volumes."""
        namespace, name = claim["metadata"]["namespace"], claim["metadata"]["name"]
        users = (*self._vmis.items(namespace), *self._pods.items(namespace))
        return any(
            name in claims_of(one.get("spec") or {})
            for one in users
            if read_status(one).get("phase") not in FINAL_PHASES
        )

    async def _status(self, resource: Any, obj: Obj, status: Obj) -> None:
        before = obj.get("status") or {}
        if any(before.get(name) != value for name, value in status.items()):
            await self._patch(resource, obj, {"status": status}, subresource="status")

    async def _release(self, resource: Any, obj: Obj, finalizer: str) -> None:
        finalizers = obj["metadata"].get("finalizers") or []
        if finalizer in finalizers:
            rest = [one for one in finalizers if one != finalizer]
            await self._patch(resource, obj, {"metadata": {"finalizers": rest}})

    async def _patch(self, resource: Any, obj: Obj, change: Obj, subresource: str | None = None) -> Obj:
        """Change an object unless somebody was faster, which is seen at once."""
        metadata = obj["metadata"]
        change = {**change, "metadata": {**change.get("metadata", {}), "resourceVersion": metadata["resourceVersion"]}}
        try:
            changed = await self._client.patch(
                resource, metadata["name"], change, metadata.get("namespace"), subresource=subresource
            )
        except ApiError as error:
            if error.not_found:
                return obj
            raise
        (self._volumes if resource is PVS else self._claims).learn(changed)
        return changed

    def _claim_changed(self, old: Obj | None, new: Obj | None) -> None:
        for claim in (one for one in (old, new) if one is not None):
            if name := claim["spec"].get("volumeName"):
                self.queue.add(name)
            metadata = claim["metadata"]
            for volume in self._volumes.by_index(_MEANT, f"{metadata['namespace']}/{metadata['name']}"):
                self.queue.add(volume["metadata"]["name"])

    def _user_gone(self, user: Obj) -> None:
        namespace = user["metadata"]["namespace"]
        for name in claims_of(user.get("spec") or {}):
            claim = self._claims.get(namespace, name)
            if claim is not None and claim["metadata"].get("deletionTimestamp") and claim["spec"].get("volumeName"):
                self.queue.add(claim["spec"]["volumeName"])


def _meant(volume: Obj) -> str:
    reference = volume["spec"].get("claimRef")
    return f"{reference.get('namespace')}/{reference.get('name')}" if reference else ""


async def run_binder(client: KubeClient) -> None:
    """Run the binder until cancelled."""
    volumes, claims = Informer(client, PVS), Informer(client, PVCS)
    pods, vmis = Informer(client, PODS), Informer(client, VMIS)
    recorder = EventRecorder(client, COMPONENT)
    binder = VolumeBinder(client, recorder, volumes=volumes, claims=claims, pods=pods, vmis=vmis)
    async with asyncio.TaskGroup() as group:
        group.create_task(recorder.run(), name="volume-events")
        for informer in (volumes, claims, pods, vmis):
            group.create_task(informer.run(), name="volume-informer")
            await informer.synced()
        group.create_task(binder.run(), name="volume-binder")
