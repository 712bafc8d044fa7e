"""The virtual machine that is snapshotted: its claims, the lock on it, and its guest's file systems.

While a snapshot is made, ``status.snapshotInProgress`` names it, admission refuses changes of volumes and of the run
strategy, and a finalizer keeps the machine. What isn't obvious: a machine that runs is kept as it was started, not as
its template is by now, because the disks belong to what runs; its volumes are those of today.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from polyvisor.api.dumps import dump_claim
from polyvisor.api.names import FINAL_PHASES, VmiCondition
from polyvisor.api.reading import nested, read_status
from polyvisor.api.resources import CONTROLLER_REVISIONS, DATAVOLUMES, PVCS, SUBRESOURCES_GROUP, VMS
from polyvisor.api.snapshots import SOURCE_FINALIZER, Indication
from polyvisor.api.volumes import claim_of
from polyvisor.controllers.objects import (
    add_finalizer,
    condition_is,
    deleting,
    has_finalizer,
    phase_of,
    remove_finalizer,
)
from polyvisor.domain.kept import state_claim
from polyvisor.kube import ApiError, KubeClient

if TYPE_CHECKING:
    from polyvisor.api import Obj
    from polyvisor.api.resources import Resource

KEPT_METADATA = ("name", "namespace", "uid", "labels", "annotations", "resourceVersion", "generation")
FROZEN = "frozen"
SUCCEEDED = "Succeeded"


async def found(client: KubeClient, resource: Resource, name: str, namespace: str) -> Obj | None:
    """Return an object, None if it is not there."""
    try:
        return await client.get(resource, name, namespace)
    except ApiError as error:
        if error.not_found:
            return None
        raise


def claims_of(vm: Obj) -> dict[str, str]:
    """Return the claims of a machine's volumes, and of its own state, by the volume's name."""
    volumes = nested(vm, "spec", "template", "spec").get("volumes") or []
    found_: dict[str, str] = {}
    for volume in volumes:
        claim = dump_claim(volume) or ("" if "ephemeral" in volume else claim_of(volume))
        if claim:
            found_[volume["name"]] = claim
    if state := state_of(vm):
        found_[state] = state
    return found_


def state_of(vm: Obj) -> str:
    """Return the claim of a machine's own state, empty if it keeps none."""
    instance = {"metadata": {"name": vm["metadata"]["name"]}, "spec": nested(vm, "spec", "template", "spec")}
    return state_claim(instance)


class Source:
    """One machine, its instance, and the snapshot that is made of it."""

    def __init__(self, client: KubeClient, vm: Obj, vmi: Obj | None, snapshot: str) -> None:
        self._client = client
        self.vm = vm
        self.vmi = vmi if vmi is not None and phase_of(vmi) not in FINAL_PHASES else None
        self._snapshot = snapshot

    @property
    def paused(self) -> bool:
        """Whether the machine runs, and stands still."""
        return self.vmi is not None and condition_is(self.vmi, VmiCondition.PAUSED)

    @property
    def agent(self) -> bool:
        """Whether the guest's agent can freeze its file systems."""
        return self.vmi is not None and condition_is(self.vmi, VmiCondition.AGENT_CONNECTED) and not self.paused

    @property
    def locked(self) -> bool:
        """Whether the machine is held for this snapshot."""
        mine = read_status(self.vm).get("snapshotInProgress") == self._snapshot
        return mine and has_finalizer(self.vm, SOURCE_FINALIZER)

    def indications(self) -> list[Indication]:
        """Return what has to be known about a snapshot that is made now, in KubeVirt's order."""
        if self.vmi is None:
            return []
        if self.paused:
            return [Indication.ONLINE, Indication.PAUSED]
        return sorted([Indication.ONLINE, Indication.GUEST_AGENT if self.agent else Indication.NO_GUEST_AGENT])

    async def lock(self) -> str:
        """Hold the machine for this snapshot; return why it cannot be held now, empty if it is."""
        if why := await self._not_ready():
            return why
        other = read_status(self.vm).get("snapshotInProgress")
        if other not in (None, self._snapshot):
            return f"snapshot {other!r} in progress"
        if other is None:
            status = {**read_status(self.vm), "snapshotInProgress": self._snapshot}
            self.vm = await self._client.update_status(VMS, {**self.vm, "status": status})
        if not has_finalizer(self.vm, SOURCE_FINALIZER):
            held = copy.deepcopy(self.vm)
            add_finalizer(held, SOURCE_FINALIZER)
            self.vm = await self._client.update(VMS, held)
        return ""

    async def _not_ready(self) -> str:
        """Return what keeps the machine's claims from being snapshotted."""
        namespace = self.vm["metadata"]["namespace"]
        for name in claims_of(self.vm).values():
            claim = await found(self._client, PVCS, name, namespace)
            if claim is None:
                return f"volume doesnt exist: {name}"
            if deleting(claim):
                return f"volume is being deleted: {name}"
            if phase_of(claim) != "Bound":
                return f"volume not bound: {name}"
            volume = await found(self._client, DATAVOLUMES, name, namespace)
            if volume is not None and phase_of(volume) != SUCCEEDED:
                return f"volume not populated: {name}"
        return ""

    async def unlock(self) -> None:
        """Let the machine go, if this snapshot holds it."""
        if read_status(self.vm).get("snapshotInProgress") != self._snapshot:
            return
        if has_finalizer(self.vm, SOURCE_FINALIZER):
            released = copy.deepcopy(self.vm)
            remove_finalizer(released, SOURCE_FINALIZER)
            self.vm = await self._client.update(VMS, released)
            if deleting(self.vm) and not self.vm["metadata"].get("finalizers"):
                return
        status = {key: value for key, value in read_status(self.vm).items() if key != "snapshotInProgress"}
        self.vm = await self._client.update_status(VMS, {**self.vm, "status": status})

    async def freeze(self, seconds: float) -> None:
        """Have the guest's agent freeze its file systems, if there is one; for at most so long."""
        if self.agent and self.vmi is not None and read_status(self.vmi).get("fsFreezeStatus") != FROZEN:
            await self._ask("freeze", {"unfreezeTimeout": f"{max(seconds, 1):.0f}s"})

    async def thaw(self) -> None:
        """Have the guest's file systems thawed, if its agent is there; whoever copies claims may pause it meanwhile."""
        if self.vmi is not None and condition_is(self.vmi, VmiCondition.AGENT_CONNECTED):
            await self._ask("unfreeze", {})

    async def _ask(self, what: str, body: Obj) -> None:
        metadata = self.vm["metadata"]
        path = f"/apis/{SUBRESOURCES_GROUP}/v1/namespaces/{metadata['namespace']}/virtualmachineinstances"
        await self._client.request("PUT", f"{path}/{metadata['name']}/{what}", body=body)

    async def spec(self) -> Obj:
        """Return the machine as its snapshot keeps it."""
        metadata = {key: self.vm["metadata"][key] for key in KEPT_METADATA if key in self.vm["metadata"]}
        return {"metadata": copy.deepcopy(metadata), "spec": await self._spec()}

    async def _spec(self) -> Obj:
        present: Obj = copy.deepcopy(self.vm["spec"])
        name = read_status(self.vmi).get("virtualMachineRevisionName") if self.vmi is not None else None
        revision = (
            await found(self._client, CONTROLLER_REVISIONS, name, self.vm["metadata"]["namespace"]) if name else None
        )
        started = nested(revision or {}, "data").get("spec")
        if not started:
            return present
        kept: Obj = copy.deepcopy(started)
        inner, now = kept["template"]["spec"], present["template"]["spec"]
        for holder, fresh, field in (
            (inner, now, "volumes"),
            (kept, present, "dataVolumeTemplates"),
            (inner["domain"].setdefault("devices", {}), nested(now, "domain", "devices"), "disks"),
        ):
            holder.pop(field, None)
            if field in fresh:
                holder[field] = fresh[field]
        return kept
