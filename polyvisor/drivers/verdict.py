"""What one driver cannot do for one spec: the table applied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvisor.drivers.base import Driver, Support, Verdict
from polyvisor.drivers.features import Feature, asked

if TYPE_CHECKING:
    from polyvisor.api import VirtualMachineInstanceSpec

UNKNOWN = Support(Verdict.UNKNOWN, source="", reason="it is not known whether the driver can do this, so it is refused")


def unsupported(
    driver: Driver, spec: VirtualMachineInstanceSpec, virt_type: str | None = None
) -> list[tuple[Feature, str, Support]]:
    """Return every field of ``spec`` that needs a feature which ``driver`` lacks.

    A conditional feature is lacking only where ``virt_type`` is given and is not among the feature's; its other
    conditions are for the node to meet.
    """
    found = []
    for feature, paths in asked(spec):
        support = driver.features.get(feature.id, UNKNOWN)
        if support.verdict is Verdict.SUPPORTED:
            continue
        if support.verdict is Verdict.CONDITIONAL and (
            virt_type is None or not support.virt_types or virt_type in support.virt_types
        ):
            continue
        found += [(feature, path, support) for path in paths]
    return found
