"""Machines that went to another driver or host: what their VirtualMachine says of the claims that were left."""

from __future__ import annotations

import json

from polyvisor.api.base import Obj
from polyvisor.api.reading import annotations_of

MOVED_ANNOTATION = "hypervisor.kubevirt.io/moved"
"""On a VirtualMachine: JSON with ``from``, ``to``, the old ``claims``, and the ``policy`` for them."""
MOVE_OF_LABEL = "hypervisor.kubevirt.io/move-of"
"""On a DataVolume that a move makes: the uid of the VirtualMachine that is moved."""
RETAIN, DELETE = "Retain", "Delete"
"""The old claims stay, or are deleted once the machine has run where it went."""


def to_delete(vm: Obj) -> list[str]:
    """Return the claims that are deleted once a machine has run where it went."""
    try:
        said = json.loads(annotations_of(vm).get(MOVED_ANNOTATION) or "{}")
    except ValueError:
        return []
    names = said.get("claims") if isinstance(said, dict) and said.get("policy") == DELETE else []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
