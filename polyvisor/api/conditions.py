"""Conditions in the status of an object: set, dropped and asked for, in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyvisor.api.base import Obj


def set_condition(status: Obj, type: str, value: str, reason: str = "", message: str = "", *, at: str) -> None:
    """Set a condition; its transition time becomes ``at``, a time stamp, only when its value changes.

    It has no empty fields: an API server drops them, and the status would look changed for ever.
    """
    conditions: list[Obj] = status.setdefault("conditions", [])
    entry: Obj = {"type": type, "status": str(value), "lastTransitionTime": at}
    entry |= {k: v for k, v in (("reason", reason), ("message", message)) if v}
    for position, old in enumerate(conditions):
        if old.get("type") == type:
            if old.get("status") == value:
                entry["lastTransitionTime"] = old.get("lastTransitionTime") or at
            conditions[position] = entry
            return
    conditions.append(entry)


def drop_condition(status: Obj, type: str, reasons: frozenset[str] | None = None) -> None:
    """Remove a condition; with ``reasons`` only if it has one of them."""
    kept = [
        c
        for c in status.get("conditions") or []
        if c.get("type") != type or (reasons is not None and c.get("reason") not in reasons)
    ]
    if kept or "conditions" in status:
        status["conditions"] = kept


def find_condition(status: Mapping[str, Any], type: str) -> Obj | None:
    """Return a copy of a condition, None if it is not there."""
    return next((dict(one) for one in status.get("conditions") or [] if one.get("type") == type), None)


def has_condition(status: Mapping[str, Any], type: str, value: str = "True") -> bool:
    """Whether a condition is there with that value."""
    return any(c.get("type") == type and c.get("status") == value for c in status.get("conditions") or [])
