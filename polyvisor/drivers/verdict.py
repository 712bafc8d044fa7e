"""What one driver cannot do for one spec: the table applied."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from polyvisor.drivers.base import Driver, ProbeResult, Support, Verdict
from polyvisor.drivers.features import Combined, Counted, Feature, asked

if TYPE_CHECKING:
    from polyvisor.api import VirtualMachineInstanceSpec

Asked = Iterable[tuple[Feature, list[str]]]
"""What :func:`~polyvisor.drivers.features.asked` finds in a spec: the same for every driver."""
UNKNOWN = Support(Verdict.UNKNOWN, source="", reason="it is not known whether the driver can do this, so it is refused")


def answer(driver: Driver, feature: Feature) -> Support:
    """Return what a driver says of a feature, of a number of things, or of a combination of fields."""
    if isinstance(feature, Combined):
        rule = driver.rules.get(feature.id)
        return Support(Verdict.UNSUPPORTED, rule.source, rule.reason) if rule else Support(Verdict.SUPPORTED, "")
    if not isinstance(feature, Counted):
        return answer_of(driver, feature.id)
    limit = driver.limits.get(feature.id)
    if limit is None or feature.count <= limit.most:
        return Support(Verdict.SUPPORTED, limit.source if limit else "")
    why = f": {limit.reason}" if limit.reason else ""
    return Support(Verdict.UNSUPPORTED, limit.source, f"{limit.most} at most{why}")


def excess(driver: Driver, feature: Feature, fields: Sequence[str]) -> Sequence[str]:
    """Return the fields that ask for what a driver does not take: all, but of things those beyond the limit."""
    limit = driver.limits.get(feature.id)
    counted = isinstance(feature, Counted) and feature.count == len(fields)
    return fields[limit.most :] if limit and counted else fields


def answer_of(driver: Driver, feature: str) -> Support:
    """Return what a driver's table says of a feature of the catalogue; a missing answer is ``UNKNOWN``."""
    return driver.features.get(feature, UNKNOWN)


def supports(driver: Driver, feature: str) -> bool:
    """Whether a driver has a feature, whatever the node and its versions."""
    return answer_of(driver, feature).verdict is Verdict.SUPPORTED


def may_support(driver: Driver, feature: str) -> bool:
    """Whether a driver has a feature, be it only under conditions."""
    return answer_of(driver, feature).verdict in (Verdict.SUPPORTED, Verdict.CONDITIONAL)


def supports_on(driver: Driver, feature: str, node: ProbeResult, virt_type: str) -> bool:
    """Whether a driver has a feature on a node of these versions with this virt type.

    What only a node's label tells (``node_fact``) was asked for by placement and counts as met.
    """
    support = answer_of(driver, feature)
    if support.verdict is not Verdict.CONDITIONAL:
        return support.verdict is Verdict.SUPPORTED
    if support.virt_types and virt_type not in support.virt_types:
        return False
    versioned = bool(support.min_libvirt or support.min_hypervisor)
    return support.node_fact or not versioned or feature in shown(driver, node)


def hotplug_buses(drivers: Iterable[Driver]) -> tuple[str, ...]:
    """Return the buses of disks that some of ``drivers`` attach while a machine runs, the usual one first."""
    return tuple(dict.fromkeys(bus for driver in drivers for bus in driver.hotplug_buses))


def unsupported(
    driver: Driver, spec: VirtualMachineInstanceSpec, virt_type: str | None = None
) -> list[tuple[Feature, str, Support]]:
    """Return every field of ``spec`` that needs a feature which ``driver`` lacks."""
    return lacking(driver, asked(spec), virt_type)


def lacking(driver: Driver, wanted: Asked, virt_type: str | None = None) -> list[tuple[Feature, str, Support]]:
    """Return the fields among ``wanted`` that need a feature which ``driver`` lacks.

    A conditional feature is lacking only where ``virt_type`` is given and is not among the feature's; its other
    conditions are for the node to meet.
    """
    found = []
    for feature, paths in wanted:
        support = answer(driver, feature)
        if support.verdict is Verdict.SUPPORTED:
            continue
        if support.verdict is Verdict.CONDITIONAL and (
            virt_type is None or not support.virt_types or virt_type in support.virt_types
        ):
            continue
        found += [(feature, path, support) for path in excess(driver, feature, paths)]
    return found


def shown(driver: Driver, result: ProbeResult) -> frozenset[str]:
    """Return the conditional features that a node shows: by what the probe found, and by the versions it met."""
    return frozenset(
        id_
        for id_, support in driver.features.items()
        if support.verdict is Verdict.CONDITIONAL
        and (id_ in result.facts if support.node_fact else bool(support.min_libvirt or support.min_hypervisor))
        and _at_least(result.libvirt_version, support.min_libvirt)
        and _at_least(result.version, support.min_hypervisor)
    )


def _at_least(version: str, least: str) -> bool:
    return not least or _numbers(version) >= _numbers(least)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]
