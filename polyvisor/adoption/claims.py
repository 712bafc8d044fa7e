"""A disk of a host as objects of the cluster: a static PersistentVolume, and the one claim that may have it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from polyvisor.adoption.draft import Draft
from polyvisor.adoption.reading import path_of
from polyvisor.adoption.values import Note, Outcome
from polyvisor.api import Obj
from polyvisor.api.node_names import ENDPOINT_CSI_DRIVER, ENDPOINT_LABEL
from polyvisor.api.quantity import format_quantity

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.adoption.values import PoolMapping

UNKNOWN_SIZE = 1 << 30
MAX_NAME = 63


def claimed(
    draft: Draft,
    element: _Element,
    name: str,
    pool: PoolMapping,
    volume: str,
    path: str,
    mode: str,
    *,
    form: str,
    folder: bool = False,
) -> None:
    """Add a volume to the machine, with PersistentVolume and claim; ``form`` is the image's format."""
    sizes = draft.mapping.sizes
    size = sizes.get(path) or sizes.get(f"{pool.pool}/{volume}")
    if not size:
        size = UNKNOWN_SIZE
        where = f"{path_of(element)}/source"
        text = f"the size is not in the XML; the claim says {format_quantity(size)}, the disk stays as large as it is"
        draft.settled[f"{where}/size()"] = Note(f"{where}/size()", "unknown", Outcome.CHANGED, text)
    claim = short(f"{draft.name}-{name}")
    volume_name = short(f"{draft.mapping.namespace}.{claim}")  # no namespace holds a dot
    capacity = {"storage": format_quantity(size)}
    attributes = {"pool": pool.pool, "volume": volume}
    if pool.path:
        attributes["path"] = path
    if form:
        attributes["format"] = form
    volume_mode = "Filesystem" if folder else "Block"
    spec: Obj = {
        "capacity": capacity,
        "accessModes": [mode],
        "volumeMode": volume_mode,
        "storageClassName": pool.storage_class,
        "persistentVolumeReclaimPolicy": "Retain",
        "claimRef": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": draft.mapping.namespace,
            "name": claim,
        },
        "csi": {
            "driver": ENDPOINT_CSI_DRIVER,
            "volumeHandle": "/".join(part for part in (draft.mapping.endpoint, pool.pool, volume) if part),
            "volumeAttributes": attributes,
        },
    }
    if endpoint := draft.mapping.endpoint:
        term = {"matchExpressions": [{"key": ENDPOINT_LABEL, "operator": "In", "values": [endpoint]}]}
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [term]}}
    draft.volumes.append(
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume_name}, "spec": spec}
    )
    draft.claims.append(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim, "namespace": draft.mapping.namespace},
            "spec": {
                "accessModes": [mode],
                "volumeMode": volume_mode,
                "storageClassName": pool.storage_class,
                "volumeName": volume_name,
                "resources": {"requests": capacity},
            },
        }
    )
    source = {"name": name, "persistentVolumeClaim": {"claimName": claim}}
    draft.spec.setdefault("volumes", []).append(source)


def short(name: str) -> str:
    """Cut a name to what a label may hold, and tell apart by a digest what was cut."""
    if len(name) <= MAX_NAME:
        return name
    return f"{name[: MAX_NAME - 11].rstrip('-.')}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"
