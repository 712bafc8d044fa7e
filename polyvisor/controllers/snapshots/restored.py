"""What a restore makes: the claims and the virtual machine. Pure."""

from __future__ import annotations

import copy
import hashlib
from typing import TYPE_CHECKING

from polyvisor.api.names import RunStrategy
from polyvisor.api.patches import patched
from polyvisor.api.quantity import parse_quantity
from polyvisor.api.reading import nested
from polyvisor.api.resources import PVCS, VMS
from polyvisor.api.snapshots import (
    LAST_RESTORE_ANNOTATION,
    RESTORE_NAME_ANNOTATION,
    RESTORE_SOURCE_LABEL,
    RESTORE_SOURCE_NAMESPACE_LABEL,
    STORAGE_GROUP,
    RestorePolicy,
)
from polyvisor.controllers.objects import uid
from polyvisor.controllers.snapshots.source import state_of
from polyvisor.placement import permission

if TYPE_CHECKING:
    from polyvisor.api import Obj

MAX_NAME = 63
NOT_COPIED = (
    *("pv.kubernetes.io", "volume.beta.kubernetes.io", "volume.kubernetes.io", "cdi.kubevirt.io"),
    *("k8s.io/CloneRequest", "k8s.io/CloneOf"),
)
"""How annotations of a claim begin that are about the one claim and no other."""
CONTENT_TYPE = "cdi.kubevirt.io/storage.contentType"


def mark(restore: Obj) -> str:
    """Return what tells that an object was made by this restore."""
    return f"{restore['metadata']['name']}-{uid(restore)}"


def claim_name(restore: Obj, volume: str, claim: str, state: str) -> str:
    """Return the name of a volume's restored claim; ``state`` is the claim of the machine's own state and keeps its."""
    spec = restore["spec"]
    for override in spec.get("volumeRestoreOverrides") or []:
        if override.get("volumeName") == volume and override.get("restoreName"):
            return str(override["restoreName"])
    if spec.get("volumeRestorePolicy") == RestorePolicy.IN_PLACE or claim == state:
        return claim
    if spec.get("volumeRestorePolicy") == RestorePolicy.PREFIX:
        return shortened(f"{spec['target']['name']}-{volume}")
    return f"restore-{uid(restore)}-{volume}"


def shortened(name: str) -> str:
    """Return a name that is no longer than a label may be, and still differs from others that begin alike."""
    if len(name) <= MAX_NAME:
        return name
    return f"{name[: MAX_NAME - 9].rstrip('-.')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def restores_of(restore: Obj, content: Obj) -> list[Obj]:
    """Return ``status.restores``: which volume comes from which VolumeSnapshot into which claim."""
    machine = content["spec"]["source"]["virtualMachine"]
    dumps = {v["name"] for v in nested(machine, "spec", "template", "spec").get("volumes") or [] if "memoryDump" in v}
    templates = {one["metadata"]["name"] for one in machine["spec"].get("dataVolumeTemplates") or []}
    state, found = state_of(machine), []
    for backup in content["spec"].get("volumeBackups") or []:
        volume, claim = backup["volumeName"], backup["persistentVolumeClaim"]["metadata"]["name"]
        if volume in dumps:
            continue
        name = claim_name(restore, volume, claim, state)
        entry = {
            "volumeName": volume,
            "persistentVolumeClaim": name,
            "volumeSnapshotName": backup["volumeSnapshotName"],
        }
        found.append({**entry, **({"dataVolumeName": name} if claim in templates else {})})
    return found


def claim(restore: Obj, entry: Obj, backup: Obj, size: str | None, source: Obj, owners: list[Obj]) -> Obj:
    """Return a restored claim; ``size`` is the least that its VolumeSnapshot needs."""
    kept, before = backup["persistentVolumeClaim"]["metadata"], backup["persistentVolumeClaim"]["spec"]
    annotations = {
        name: value
        for name, value in (kept.get("annotations") or {}).items()
        if name == CONTENT_TYPE or not name.startswith(NOT_COPIED)
    }
    annotations |= {RESTORE_NAME_ANNOTATION: restore["metadata"]["name"], LAST_RESTORE_ANNOTATION: mark(restore)}
    labels = {**(kept.get("labels") or {}), RESTORE_SOURCE_LABEL: shortened(source["metadata"]["name"])}
    labels[RESTORE_SOURCE_NAMESPACE_LABEL] = source["metadata"]["namespace"]
    override: Obj = next(
        (
            one
            for one in restore["spec"].get("volumeRestoreOverrides") or []
            if one.get("volumeName") == entry["volumeName"]
        ),
        {},
    )
    snapshot = {"apiGroup": STORAGE_GROUP, "kind": "VolumeSnapshot", "name": entry["volumeSnapshotName"]}
    spec = {key: before[key] for key in ("accessModes", "storageClassName", "volumeMode") if before.get(key)}
    requested = nested(before, "resources", "requests").get("storage")
    if size and (requested is None or parse_quantity(requested) < parse_quantity(size)):
        requested = size
    metadata: Obj = {
        "name": entry["persistentVolumeClaim"],
        "namespace": restore["metadata"]["namespace"],
        "labels": labels | (override.get("labels") or {}),
        "annotations": annotations | (override.get("annotations") or {}),
    }
    if owners:
        metadata["ownerReferences"] = owners
    return {
        "apiVersion": "v1",
        "kind": PVCS.kind,
        "metadata": metadata,
        "spec": {
            **spec,
            "resources": {"requests": {"storage": requested}},
            "dataSource": snapshot,
            "dataSourceRef": snapshot,
        },
    }


def machine(restore: Obj, content: Obj, restores: list[Obj], target: Obj | None) -> Obj:
    """Return the machine after the restore; ``target`` is the one that is there. Raises ValueError for a patch."""
    source = content["spec"]["source"]["virtualMachine"]
    spec: Obj = copy.deepcopy(source["spec"])
    by_volume = {entry["volumeName"]: entry for entry in restores}
    renamed = {}
    inner = spec["template"]["spec"]
    inner["volumes"] = [volume for volume in inner.get("volumes") or [] if "memoryDump" not in volume]
    for volume in inner["volumes"]:
        entry = by_volume.get(volume["name"])
        if entry is None:
            continue
        if "persistentVolumeClaim" in volume:
            volume["persistentVolumeClaim"]["claimName"] = entry["persistentVolumeClaim"]
        elif entry.get("dataVolumeName"):
            renamed[volume["dataVolume"]["name"]] = entry["dataVolumeName"]
            volume["dataVolume"]["name"] = entry["dataVolumeName"]
        else:  # of no template: the claim alone is restored
            hotpluggable = volume.pop("dataVolume").get("hotpluggable")
            volume["persistentVolumeClaim"] = {"claimName": entry["persistentVolumeClaim"]}
            if hotpluggable is not None:
                volume["persistentVolumeClaim"]["hotpluggable"] = hotpluggable
    for template in spec.get("dataVolumeTemplates") or []:
        name = template["metadata"]["name"]
        template["metadata"]["name"] = renamed.get(name, name)
    if not inner["volumes"]:
        del inner["volumes"]
    if target is not None:
        restored: Obj = copy.deepcopy(target)
        for field in ("running", "runStrategy"):
            spec.pop(field, None)
            if field in target["spec"]:
                spec[field] = target["spec"][field]
        if spec.get("running"):
            spec["running"] = False
        restored["spec"] = spec
    else:
        restored = _new(restore, source, spec)
    restored["metadata"].setdefault("annotations", {})[LAST_RESTORE_ANNOTATION] = mark(restore)
    return restored


def _new(restore: Obj, source: Obj, spec: Obj) -> Obj:
    if spec.pop("running", None) is not None:
        spec.pop("runStrategy", None)
    spec["runStrategy"] = str(RunStrategy.HALTED)
    metadata = source["metadata"]
    made: Obj = {
        "apiVersion": VMS.api_version,
        "kind": VMS.kind,
        "metadata": {
            "name": restore["spec"]["target"]["name"],
            "namespace": restore["metadata"]["namespace"],
            "labels": dict(metadata.get("labels") or {}),
            "annotations": dict(metadata.get("annotations") or {}),
        },
        "spec": spec,
    }
    made = patched(made, restore["spec"].get("patches") or [])
    permission.hand_on(restore, made)  # whoever asked for the restore, not who wrote the machine then
    return made
