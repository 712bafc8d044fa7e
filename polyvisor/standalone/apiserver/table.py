"""``Table`` output: what ``kubectl get`` prints, worked out by the server.

Cells come from the columns of the resource table, by JSONPath; the few that Kubernetes itself computes (a Pod's
status, a Node's roles, who an Event is about) are functions here, by kind and column name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from polyvisor.api.owners import controller_of
from polyvisor.api.resources import Column, Resource

from .clock import age
from .errors import Obj

_TOKEN = re.compile(r"\.([A-Za-z0-9_-]+)|\[(\d+|\*)\]|\[\?\(@\.([A-Za-z0-9_.-]+)\s*==\s*['\"]([^'\"]*)['\"]\)\]")


def find_path(obj: Any, path: str) -> list[Any]:
    """Return what a JSONPath of the printer-column subset finds."""
    found = [obj]
    at = 0
    while at < len(path):
        token = _TOKEN.match(path, at)
        if not token:
            return []
        at = token.end()
        field, index, key, value = token.groups()
        found = [inner for one in found for inner in _step(one, field, index, key, value)]
    return [one for one in found if one is not None]


def _step(obj: Any, field: str | None, index: str | None, key: str | None, value: str | None) -> Iterable[Any]:
    if field is not None:
        return [obj[field]] if isinstance(obj, dict) and field in obj else []
    if not isinstance(obj, list):
        return []
    if index is not None:
        return obj if index == "*" else obj[int(index) : int(index) + 1]
    return [one for one in obj if isinstance(one, dict) and str(one.get(key or "")) == value]


def _pod_ready(pod: Obj) -> str:
    statuses = pod.get("status", {}).get("containerStatuses", [])
    total = len(pod.get("spec", {}).get("containers", []))
    return f"{sum(one.get('ready') is True for one in statuses)}/{total}"


def _pod_status(pod: Obj) -> str:
    status = pod.get("status", {})
    reason = status.get("reason") or status.get("phase") or "Unknown"
    for one in status.get("containerStatuses", []):
        state = one.get("state", {})
        inner = state.get("waiting") or state.get("terminated") or {}
        reason = inner.get("reason") or reason
    if pod["metadata"].get("deletionTimestamp"):
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return str(reason)


def _pod_restarts(pod: Obj) -> int:
    return sum(one.get("restartCount", 0) for one in pod.get("status", {}).get("containerStatuses", []))


def _node_status(node: Obj) -> str:
    ready = find_path(node, ".status.conditions[?(@.type=='Ready')].status")
    text = "Unknown" if not ready else "Ready" if ready[0] == "True" else "NotReady"
    return text + (",SchedulingDisabled" if node.get("spec", {}).get("unschedulable") else "")


def _node_roles(node: Obj) -> str:
    prefix = "node-role.kubernetes.io/"
    labels = node["metadata"].get("labels", {})
    return ",".join(sorted(key.removeprefix(prefix) for key in labels if key.startswith(prefix))) or "<none>"


def _event_object(event: Obj) -> str:
    about = event.get("involvedObject", {})
    return f"{about.get('kind', '').lower()}/{about.get('name', '')}"


def _last_seen(event: Obj) -> str:
    return age(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp"))


_ACCESS = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def _access_modes(claim: Obj) -> str:
    modes = claim.get("status", {}).get("accessModes") or []
    return ",".join(_ACCESS.get(mode, mode) for mode in modes)


def _volume_modes(volume: Obj) -> str:
    modes = volume.get("spec", {}).get("accessModes") or []
    return ",".join(_ACCESS.get(mode, mode) for mode in modes)


def _volume_status(volume: Obj) -> str:
    if volume["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return str(volume.get("status", {}).get("phase", ""))


def _volume_claim(volume: Obj) -> str:
    claim = volume.get("spec", {}).get("claimRef")
    return f"{claim.get('namespace')}/{claim.get('name')}" if claim else ""


def _or_empty(path: str) -> Callable[[Obj], str]:
    return lambda obj: ",".join(str(one) for one in find_path(obj, path))


def _attributes_class(obj: Obj) -> str:
    return str(obj.get("spec", {}).get("volumeAttributesClassName") or "<unset>")


def _controller(revision: Obj) -> str:
    owner = controller_of(revision)
    if owner is None:
        return "<none>"
    group = owner["apiVersion"].partition("/")[0]
    return f"{owner['kind'].lower()}.{group}/{owner['name']}"


_COMPUTED: dict[tuple[str, str], Callable[[Obj], Any]] = {
    ("pods", "Ready"): _pod_ready,
    ("pods", "Status"): _pod_status,
    ("pods", "Restarts"): _pod_restarts,
    ("nodes", "Status"): _node_status,
    ("nodes", "Roles"): _node_roles,
    ("events", "Last Seen"): _last_seen,
    ("events", "Object"): _event_object,
    ("persistentvolumeclaims", "Access Modes"): _access_modes,
    ("persistentvolumes", "Access Modes"): _volume_modes,
    ("persistentvolumes", "Status"): _volume_status,
    ("persistentvolumes", "Claim"): _volume_claim,
    ("persistentvolumes", "StorageClass"): _or_empty(".spec.storageClassName"),
    ("persistentvolumes", "VolumeAttributesClass"): _attributes_class,
    ("persistentvolumes", "Reason"): _or_empty(".status.reason"),
    ("controllerrevisions", "Controller"): _controller,
}
_ADDED: dict[str, tuple[Column, ...]] = {
    "secrets": (Column("Type", ".type"), Column("Data", "", "integer"), Column("Age", "", "date")),
    "configmaps": (Column("Data", "", "integer"), Column("Age", ".metadata.creationTimestamp", "date")),
}
_NAMELESS = frozenset(["events"])
"""Kinds whose rows Kubernetes shows without a name."""


def _columns(resource: Resource) -> Sequence[Column]:
    columns: Sequence[Column] = (
        _ADDED.get(resource.plural, resource.columns) if not resource.group else resource.columns
    )
    if resource.plural == "nodes":
        columns = [columns[0], Column("Roles", ""), *columns[1:]]
    if resource.plural == "events":
        return [one for one in columns if one.name != "Kind"]
    return columns


def _cell(resource: Resource, column: Column, obj: Obj) -> Any:
    computed = _COMPUTED.get((resource.plural, column.name))
    if computed is not None:
        return computed(obj)
    if column.name == "Data":
        return len(obj.get("data") or {}) + len(obj.get("binaryData") or {})
    if column.type == "date" and resource.plural != "customresourcedefinitions":
        found = find_path(obj, column.path or ".metadata.creationTimestamp")
        return age(found[0]) if found else ("<unknown>" if not resource.custom else None)
    found = find_path(obj, column.path)
    if not found:
        return None if resource.custom else "<none>"
    if column.type in ("integer", "number", "boolean"):
        return found[0]
    texts = [str(one).lower() if isinstance(one, bool) else str(one) for one in found if not isinstance(one, dict)]
    return ",".join(texts)


def definitions(resource: Resource) -> list[Obj]:
    """Return the column definitions of a kind's table."""
    name = {"name": "Name", "type": "string", "format": "name", "description": "Name of the object.", "priority": 0}
    columns = [
        {
            "name": column.name,
            "type": "string" if column.type == "date" and not resource.custom else column.type,
            "format": "",
            "description": "",
            "priority": column.priority,
        }
        for column in _columns(resource)
    ]
    if resource.plural in _NAMELESS:
        return [*columns, {**name, "priority": 1}]
    return [name, *columns]


def _row(resource: Resource, obj: Obj, include: str) -> Obj:
    cells = [_cell(resource, column, obj) for column in _columns(resource)]
    name = obj["metadata"]["name"]
    cells = [*cells, name] if resource.plural in _NAMELESS else [name, *cells]
    row: Obj = {"cells": cells}
    if include == "Object":
        row["object"] = obj
    elif include != "None":
        row["object"] = partial(obj)
    return row


def partial(obj: Obj) -> Obj:
    """Return the object's metadata alone, as ``PartialObjectMetadata``."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def table(resource: Resource, objects: Iterable[Obj], metadata: Obj, include: str = "Metadata") -> Obj:
    """Return a ``Table`` of objects."""
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": definitions(resource),
        "rows": [_row(resource, obj, include) for obj in objects],
    }
