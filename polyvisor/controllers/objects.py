"""Small questions and changes on plain objects that every controller needs: owners, finalizers, conditions, phases."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from polyvisor.api import conditions
from polyvisor.api.conditions import drop_condition as drop_condition
from polyvisor.api.names import ConditionStatus
from polyvisor.api.owners import controller_of
from polyvisor.api.reading import read_status
from polyvisor.api.times import moment as moment
from polyvisor.api.times import stamp as stamp

if TYPE_CHECKING:
    from polyvisor.api import Obj
    from polyvisor.api.resources import Resource


def now() -> datetime:
    """Return the present time, to the second, as Kubernetes keeps it."""
    return datetime.now(UTC).replace(microsecond=0)


def uid(obj: Obj) -> str:
    """Return the object's uid."""
    return str(obj["metadata"].get("uid") or "")


def deleting(obj: Obj) -> bool:
    """Whether the object's deletion has been asked for."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def phase_of(obj: Obj) -> str:
    """Return ``status.phase``, or an empty string."""
    return str(read_status(obj).get("phase") or "")


def owned_by(obj: Obj, owner: Obj) -> bool:
    """Whether ``owner``, this very one by its uid, controls the object."""
    reference = controller_of(obj)
    return reference is not None and reference.get("uid") == uid(owner)


def owner_reference(owner: Obj, resource: Resource) -> Obj:
    """Return the reference that makes ``owner`` the controller of an object."""
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": owner["metadata"]["name"],
        "uid": uid(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def has_finalizer(obj: Obj, finalizer: str) -> bool:
    """Whether a finalizer holds the object."""
    return finalizer in (obj["metadata"].get("finalizers") or [])


def add_finalizer(obj: Obj, finalizer: str) -> None:
    """Hold the object by a finalizer, in place."""
    if not has_finalizer(obj, finalizer):
        obj["metadata"].setdefault("finalizers", []).append(finalizer)


def remove_finalizer(obj: Obj, finalizer: str) -> None:
    """Let go of the object, in place."""
    obj["metadata"]["finalizers"] = [f for f in obj["metadata"].get("finalizers") or [] if f != finalizer]


def condition(obj: Obj, type: str) -> Obj | None:
    """Return a condition of the object's status."""
    return conditions.find_condition(obj.get("status") or {}, type)


def condition_is(obj: Obj, type: str, status: ConditionStatus = ConditionStatus.TRUE) -> bool:
    """Whether a condition is there with that status."""
    return conditions.has_condition(obj.get("status") or {}, type, status)


def set_condition(
    status: Obj, type: str, value: ConditionStatus, reason: str = "", message: str = "", *, at: datetime
) -> None:
    """Set a condition in a status, in place; the time moves only when the condition's status does."""
    conditions.set_condition(status, type, value, reason, message, at=stamp(at))


def set_phase(status: Obj, phase: str, at: datetime) -> None:
    """Enter a phase, in place, and remember when."""
    if status.get("phase") == phase:
        return
    status["phase"] = str(phase)
    status.setdefault("phaseTransitionTimestamps", []).append(
        {"phase": str(phase), "phaseTransitionTimestamp": stamp(at)}
    )
