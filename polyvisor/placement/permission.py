"""Which weaker drivers the writer of a machine was allowed to use, as admission has recorded it on the object.

Placement runs without the user. So the webhook asks for the right when the machine is written, and records the answer
in an annotation that it lets nobody else write; virt-controller hands it on from a VirtualMachine to its instance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from polyvisor.api.names import HYPERVISOR_PREFIX
from polyvisor.api.reading import nested
from polyvisor.drivers.isolation import isolated

if TYPE_CHECKING:
    from polyvisor.api import Obj
    from polyvisor.drivers.base import Driver

ANNOTATION = f"{HYPERVISOR_PREFIX}allowed-drivers"


def record(obj: Obj, drivers: Iterable[str]) -> None:
    """Write down, in place, which weaker drivers are allowed; none takes the annotation away."""
    metadata = obj.setdefault("metadata", {})
    annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if key != ANNOTATION}
    if listed := ",".join(drivers):
        annotations[ANNOTATION] = listed
    if annotations or metadata.get("annotations") is not None:
        metadata["annotations"] = annotations


def recorded(obj: Obj) -> list[str]:
    """Return which weaker drivers are allowed."""
    written = nested(obj, "metadata").get("annotations") or {}
    return [name for name in str(written.get(ANNOTATION) or "").split(",") if name]


def hand_on(owner: Obj, made: Obj) -> None:
    """Give what is made of an object, in place, what its owner was allowed, whatever its template says."""
    record(made, recorded(owner))


def anything(_: Driver) -> bool:
    """Permit every driver: where there is one user."""
    return True


def permits(obj: Obj) -> Callable[[Driver], bool]:
    """Return what says whether a machine may be placed with a driver."""
    allowed = recorded(obj)
    return lambda driver: isolated(driver) or driver.name in allowed
