"""Narrow accessors for plain objects: parts that may be absent or null are read as empty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyvisor.api.base import Obj


def nested(obj: Mapping[str, Any], *path: str) -> Obj:
    """Return the object at ``path``, an empty one if it or a part on the way is absent or null."""
    found: Any = obj
    for name in path:
        found = found.get(name) or {}
    return found  # type: ignore[no-any-return]


def read_status(obj: Mapping[str, Any]) -> Obj:
    """Return ``status``."""
    return nested(obj, "status")


def phase_of(obj: Mapping[str, Any]) -> str:
    """Return ``status.phase``, empty where there is none."""
    return str(read_status(obj).get("phase") or "")


def labels_of(obj: Mapping[str, Any]) -> dict[str, str]:
    """Return ``metadata.labels``."""
    return nested(obj, "metadata", "labels")


def annotations_of(obj: Mapping[str, Any]) -> dict[str, str]:
    """Return ``metadata.annotations``."""
    return nested(obj, "metadata", "annotations")


def chosen_hypervisor(vmi: Mapping[str, Any]) -> Obj:
    """Return ``status.hypervisor``: the driver that placement chose, its virt type, and their versions."""
    return nested(vmi, "status", "hypervisor")


def devices_of(spec: Mapping[str, Any]) -> Obj:
    """Return ``domain.devices`` of a VMI's spec."""
    return nested(spec, "domain", "devices")
