"""Which drivers really work on this node, found out by asking each of them to try, and how a Node shows it.

Probing runs in threads, two at a time (a probe may boot a kernel), and a probe that raises or hangs counts as a driver
that is not available, with that as its reason. What is said of each driver stands in one annotation of the Node as
JSON, so that clients can show why a driver is missing; labels hold only what placement needs.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from polyvisor.api import Obj, names, node_names
from polyvisor.drivers.base import CardKind, Cpus, Driver, ProbeResult
from polyvisor.drivers.verdict import shown

DRIVERS_ANNOTATION = f"{names.HYPERVISOR_PREFIX}drivers"
PREFIXES = (names.HYPERVISOR_PREFIX, names.FEATURE_PREFIX, *node_names.CPU_PREFIXES)
AT_ONCE = 2
PROBE_SECONDS = 180.0
MAX_REASON = 500
MAX_MESSAGE = 4096
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
log = logging.getLogger("polyvisor.probing")


async def probe_all(
    drivers: Iterable[Driver], scratch: Path, more: frozenset[str] = frozenset()
) -> dict[str, ProbeResult]:
    """Probe each driver; never raises for one that does not work. ``more`` holds on the node for each that works."""
    slots = asyncio.Semaphore(AT_ONCE)
    found = list(drivers)
    results = await asyncio.gather(*(_probe(driver, scratch / driver.name, more, slots) for driver in found))
    return {driver.name: result for driver, result in zip(found, results, strict=True)}


async def _probe(driver: Driver, scratch: Path, more: frozenset[str], slots: asyncio.Semaphore) -> ProbeResult:
    async with slots:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                return await asyncio.to_thread(_blocking, driver, scratch, more)
        except TimeoutError:
            return ProbeResult(available=False, reason=f"the probe did not end within {PROBE_SECONDS:.0f} s")
        except Exception as error:  # a driver may come from another package; it must not take the node down
            log.exception("probing %s failed", driver.name)
            return ProbeResult(available=False, reason=f"the probe failed: {error}")


def _blocking(driver: Driver, scratch: Path, more: frozenset[str]) -> ProbeResult:
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    result = driver.probe(scratch)
    if result.available and driver.cards is not CardKind.NONE:
        result = replace(result, facts=result.facts | more)
    return replace(result, facts=shown(driver, result))


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


def annotation_of(drivers: Iterable[Driver], results: Mapping[str, ProbeResult]) -> str:
    """Return the report on all drivers, as the annotation's text."""
    report = []
    for driver in drivers:
        result = results.get(driver.name, ProbeResult(available=False, reason="not probed yet"))
        report.append(
            {
                "name": driver.name,
                "title": driver.title,
                "available": result.available,
                "reason": result.reason[:MAX_REASON],
                "version": result.version,
                "libvirtVersion": result.libvirt_version,
                "virtTypes": list(result.virt_types),
                "facts": sorted(result.facts),
            }
        )
    return json.dumps(report, separators=(",", ":"))


def driver_report(node: Obj) -> list[dict[str, Any]]:
    """Read the report on all drivers back from a Node; empty if it has none."""
    try:
        report = json.loads((node["metadata"].get("annotations") or {}).get(DRIVERS_ANNOTATION, "[]"))
    except ValueError:
        return []
    return report if isinstance(report, list) else []


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
