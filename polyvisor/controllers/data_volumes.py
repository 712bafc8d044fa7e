"""DataVolumes as the controllers see them: made from a machine's templates, and waited for before it starts.

CDI fills them in a cluster, the agent where there is no CDI; both say how far they are in the same words. What isn't
obvious: a claim whose DataVolume is gone counts as filled, since CDI may clear a DataVolume away that has succeeded.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polyvisor.api.names import EventType, Reason
from polyvisor.api.owners import controller_of
from polyvisor.api.resources import DATAVOLUMES, PVCS, VMS
from polyvisor.api.volumes import claim_of
from polyvisor.controllers import clone_rights
from polyvisor.controllers.objects import condition, owned_by, owner_reference, phase_of
from polyvisor.kube import ApiError, EventRecorder, Informer, KubeClient

if TYPE_CHECKING:
    from polyvisor.api import Obj
    from polyvisor.api.resources import Resource

BIND_NOW = "cdi.kubevirt.io/storage.bind.immediate.requested"
"""Asks CDI not to wait for a Pod before it fills a claim: our machines wait for the claim to be filled."""
UNBOUND = ("WaitForFirstConsumer", "PendingPopulation")
LOOK_SECONDS = 5.0
"""How soon to look again at a DataVolume that is waited for; CDI's are not watched, since there may be no CDI."""
SUCCEEDED, FAILED = "Succeeded", "Failed"
NO_CDI = "there is no CDI in this cluster, which would fill DataVolumes; install it, or use a PersistentVolumeClaim"


@dataclass(frozen=True)
class Waiting:
    """Why a machine cannot start yet."""

    reason: Reason
    message: str


async def make_templates(client: KubeClient, recorder: EventRecorder, vm: Obj, *, authorize: bool = False) -> str:
    """Make the DataVolumes of a machine's templates that are not there; return what is wrong, or nothing.

    With ``authorize``, where there are several users, the machine's rights on what is copied are asked for before.
    """
    namespace = vm["metadata"]["namespace"]
    for template in vm["spec"].get("dataVolumeTemplates") or []:
        name = template["metadata"]["name"]
        volume = await _found(client, DATAVOLUMES, name, namespace)
        if volume is not None:
            if controller_of(volume) is not None and not owned_by(volume, vm):
                return f"DataVolume {name} exists and belongs to another object"
            continue
        if await _found(client, PVCS, name, namespace) is not None:
            continue
        if authorize and (why := await clone_rights.refusal(client, vm, template)):
            message = f"Not authorized to create DataVolume {name}: {why}"
            recorder.event(vm, EventType.WARNING, Reason.UNAUTHORIZED_DATA_VOLUME_CREATE, message)
            return message
        try:
            await client.create(DATAVOLUMES, _from_template(vm, template))
        except ApiError as error:
            if error.already_exists:
                continue
            message = NO_CDI if error.not_found else str(error)
            recorder.event(vm, EventType.WARNING, Reason.FAILED_DATA_VOLUME_CREATE, f"DataVolume {name}: {message}")
            return f"DataVolume {name} cannot be made: {message}"
        recorder.event(vm, EventType.NORMAL, Reason.SUCCESSFUL_DATA_VOLUME_CREATE, f"Created DataVolume {name}")
    return ""


async def waiting_for(client: KubeClient, claims: Informer, vmi: Obj) -> Waiting | None:
    """Return what keeps a machine from starting among its claims; None if they are there and filled."""
    namespace = vmi["metadata"]["namespace"]
    for volume in vmi["spec"].get("volumes") or []:
        name = claim_of(volume)
        claim = claims.get(namespace, name) if name else None
        if not name or (claim is not None and "dataVolume" not in volume and not _from_data_volume(claim)):
            continue
        if claim is None and "dataVolume" not in volume:
            what = f"PVC {name} not found in namespace {namespace}"
            return Waiting(Reason.FAILED_PVC_NOT_FOUND, what)
        found = await _found(client, DATAVOLUMES, name, namespace)
        if found is None:
            if claim is None:
                what = f"DataVolume {name} not found in namespace {namespace}"
                return Waiting(Reason.FAILED_PVC_NOT_FOUND, what)
            continue
        if waits := _waits(found):
            return waits
    return None


def _waits(volume: Obj) -> Waiting | None:
    phase, name = phase_of(volume), volume["metadata"]["name"]
    running = condition(volume, "Running") or {}
    if phase == SUCCEEDED:
        return None
    if phase == FAILED or running.get("reason") == "Error":
        what = f"DataVolume {name} failed: {running.get('message') or phase}"
        return Waiting(Reason.FAILED_DATA_VOLUME_IMPORT, what)
    if phase in UNBOUND:
        what = f"DataVolume {name} waits for its claim to be bound; annotate it with {BIND_NOW}"
        return Waiting(Reason.NOT_ALL_DVS_BOUND, what)
    return Waiting(Reason.NOT_ALL_DVS_READY, f"DataVolume {name} is being filled ({phase or 'Pending'})")


def _from_data_volume(claim: Obj) -> bool:
    owner = controller_of(claim)
    return owner is not None and owner.get("kind") == DATAVOLUMES.kind


def _from_template(vm: Obj, template: Obj) -> Obj:
    metadata = copy.deepcopy(template.get("metadata") or {})
    metadata["namespace"] = vm["metadata"]["namespace"]
    metadata["annotations"] = {BIND_NOW: "true"} | dict(metadata.get("annotations") or {})
    metadata["ownerReferences"] = [owner_reference(vm, VMS)]
    return {
        "apiVersion": DATAVOLUMES.api_version,
        "kind": DATAVOLUMES.kind,
        "metadata": metadata,
        "spec": copy.deepcopy(template["spec"]),
    }


async def _found(client: KubeClient, resource: Resource, name: str, namespace: str) -> Obj | None:
    try:
        return await client.get(resource, name, namespace)
    except ApiError as error:
        if error.not_found:
            return None
        raise
