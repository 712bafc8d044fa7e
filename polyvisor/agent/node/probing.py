"""How a Node shows which drivers really work on it.

What is said of each driver stands in one annotation of the Node as JSON, so that clients can show why a driver is
missing; labels hold only what placement needs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from polyvisor.api import Obj, names, node_names
from polyvisor.api.reading import annotations_of
from polyvisor.drivers.base import Cpus, Driver, ProbeResult
from polyvisor.prerequisites import advice, advised

PREFIXES = (names.HYPERVISOR_PREFIX, names.FEATURE_PREFIX, *node_names.CPU_PREFIXES)
MAX_REASON = 500
MAX_MESSAGE = 4096
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


def labels_of(results: Mapping[str, ProbeResult]) -> dict[str, str]:
    """Return the Node labels that say what works."""
    cpus = next((result.cpus for result in results.values() if result.available and result.cpus), Cpus())
    labels = _cpu_labels(cpus)
    for driver, result in results.items():
        if not result.available:
            continue
        labels[names.driver_label(driver)] = "true"
        if _LABEL.fullmatch(result.version):
            labels[names.version_label(driver)] = result.version
        labels.update({names.virt_type_label(driver, virt_type): "true" for virt_type in result.virt_types})
        labels.update({names.feature_label(driver, feature): "true" for feature in result.facts})
    return labels


def _cpu_labels(cpus: Cpus) -> dict[str, str]:
    """Return KubeVirt's labels for CPUs and machine types; the first driver that tells of them counts."""
    named = (
        (node_names.CPU_MODEL_PREFIX, cpus.models),
        (node_names.CPU_MIGRATION_PREFIX, cpus.models),
        (node_names.CPU_FEATURE_PREFIX, cpus.features),
        (node_names.CPU_VENDOR_PREFIX, (cpus.vendor,)),
        (node_names.HOST_MODEL_PREFIX, (cpus.host_model,)),
        (node_names.HOST_FEATURE_PREFIX, cpus.host_features),
        (node_names.MACHINE_TYPE_PREFIX, cpus.machines),
    )
    return {f"{prefix}{name}": "true" for prefix, found in named for name in found if _LABEL.fullmatch(name)}


def label_changes(node: Obj, wanted: Mapping[str, str]) -> dict[str, str | None]:
    """Return what to change in a Node's labels; None takes away one of ours that no longer holds."""
    ours: tuple[str, ...] = PREFIXES
    if node_names.SKIP_LABELS_ANNOTATION in (node["metadata"].get("annotations") or {}):
        ours = (names.HYPERVISOR_PREFIX, names.FEATURE_PREFIX)
        wanted = {key: value for key, value in wanted.items() if key.startswith(ours)}
    present = node["metadata"].get("labels") or {}
    stale = {key: None for key in present if key.startswith(ours) and key not in wanted}
    return {**stale, **{key: value for key, value in wanted.items() if present.get(key) != value}}


def report_of(
    drivers: Iterable[Driver], results: Mapping[str, ProbeResult], *, advise: bool = False
) -> list[dict[str, Any]]:
    """Return the report on all drivers, which the annotation has as JSON.

    ``advise``: reasons name the command that installs what this machine lacks; not for a container, whose image it is.
    """
    report = []
    for driver in drivers:
        result = results.get(driver.name, ProbeResult(available=False, reason="not probed yet"))
        reason = advised(driver.name, result.reason) if advise and not result.available else result.reason
        report.append(
            {
                "name": driver.name,
                "title": driver.title,
                "available": result.available,
                "reason": reason[:MAX_REASON],
                "version": result.version,
                "libvirtVersion": result.libvirt_version,
                "virtTypes": list(result.virt_types),
                "facts": sorted(result.facts),
            }
        )
    return report


def driver_report(node: Obj) -> list[dict[str, Any]]:
    """Read the report on all drivers back from a Node; empty if it has none."""
    try:
        report = json.loads(annotations_of(node).get(node_names.DRIVERS_ANNOTATION, "[]"))
    except ValueError:
        return []
    return report if isinstance(report, list) else []


def told(report: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, bool]]:
    """Return what users are told of this machine's drivers: a key, the text, whether it is good news."""
    lines = []
    for driver in report:
        if driver["available"]:
            said = f"{driver['title']} {driver['version']} works ({', '.join(driver['virtTypes'])})"
            lines.append(
                (f"driver/{driver['name']}", said + (f": {driver['reason']}" if driver["reason"] else ""), True)
            )
    for driver in report:
        if not driver["available"] and advice(driver["name"]):
            said = f"{driver['title']} is not available on this machine: {driver['reason']}"
            lines.append((f"driver/{driver['name']}", said, False))
    if absent := [driver["title"] for driver in report if not driver["available"] and not advice(driver["name"])]:
        said = f"Not on this machine: {', '.join(absent)} (`polyvisor drivers` says why)"
        lines.append(("drivers", said, False))
    return lines


def condition_of(results: Mapping[str, ProbeResult]) -> tuple[bool, str, str]:
    """Return what a Node's condition says of all drivers: whether any works, a reason, and a message."""
    works = [name for name, result in results.items() if result.available]
    parts = [f"{name} works{_as(results[name])}" for name in works]
    parts += [f"{name}: {result.reason}" for name, result in results.items() if result.reason]
    reason = "NoneWorks" if not works else "AllWork" if len(works) == len(results) else "SomeWork"
    return bool(works), reason, "; ".join(parts)[:MAX_MESSAGE]


def _as(result: ProbeResult) -> str:
    return f" ({', '.join(result.virt_types)})" if result.virt_types else ""


def gone(results: Mapping[str, ProbeResult], driver: str, virt_type: str) -> str:
    """Return why a machine that runs could not be started again on this node; empty if it could, or nobody knows."""
    result = results.get(driver)
    if result is None or (result.available and (not virt_type or virt_type in result.virt_types)):
        return ""
    return result.reason or f"it does not run {virt_type} guests"
