"""Who controls an object, by its ``ownerReferences``."""

from __future__ import annotations

from polyvisor.api.base import Obj


def controller_of(obj: Obj) -> Obj | None:
    """Return the ownerReference of the object's controller."""
    for reference in obj["metadata"].get("ownerReferences") or []:
        if reference.get("controller"):
            return dict(reference)
    return None


def controller_uid(obj: Obj, kind: str) -> str:
    """Return the uid of the object's controller, empty if it has none of that kind."""
    owner = controller_of(obj)
    return str(owner["uid"]) if owner is not None and owner.get("kind") == kind else ""
