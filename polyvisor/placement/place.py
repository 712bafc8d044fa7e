"""The decision itself: allowed by the machine, enabled in the cluster, features supported, some node advertises it.

The order of preference is the machine's own (``anyOf``), else the configuration's, else the registry's. A conditional
feature is not decided here but becomes a label that the node must show; the driver is eligible if one node shows all
of its labels. What the feature table does not know counts as unsupported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from polyvisor.api.names import (
    ARCH_LABEL,
    CandidateVerdict,
    driver_label,
    feature_label,
    virt_type_label,
)
from polyvisor.api.problems import Problem
from polyvisor.drivers.base import Driver, Support, Verdict
from polyvisor.drivers.features import Feature, asked
from polyvisor.drivers.verdict import UNKNOWN, answer, excess
from polyvisor.placement import cpu
from polyvisor.placement.result import Candidate, Placement

if TYPE_CHECKING:
    from polyvisor.api import KubeVirtConfiguration, Obj, VirtualMachineInstanceSpec

ARCHITECTURES: Mapping[str, str] = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
"""libvirt's names of architectures -> those in a node's label; the rest are the same."""
CHOICE = "spec.hypervisor"
EMULATION = "spec.configuration.developerConfiguration.useEmulation of the KubeVirt object"

Labels = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Enabled:
    virt_types: frozenset[str] | None
    """None: all of the driver's."""
    launcher_image: str


@dataclass(frozen=True, slots=True)
class _Fit:
    candidate: Candidate
    virt_type: str = ""
    labels: Mapping[str, tuple[str, ...]] | None = None
    absent: tuple[str, ...] = ()


def place(
    spec: VirtualMachineInstanceSpec,
    config: KubeVirtConfiguration,
    nodes: Iterable[Obj],
    drivers: Iterable[Driver],
    *,
    unschedulable: Mapping[str, str] | None = None,
) -> Placement:
    """Choose the driver for a machine.

    ``drivers`` come in the order of preference that holds where nothing else is said. ``unschedulable`` names drivers
    whose Pod found no node, with the scheduler's words.
    """
    known = {driver.name: driver for driver in drivers}
    enabled = _enabled(config, known)
    needs = asked(spec)
    node_labels = [labels for node in nodes if _selected(labels := _labels(node), spec)]
    developer = config.developer_configuration
    emulation = bool(developer and developer.use_emulation)
    candidates: list[Candidate] = []
    chosen: _Fit | None = None
    for name in _order(spec, enabled, known):
        fit = _consider(name, known, enabled, spec, needs, node_labels, emulation)
        candidate = fit.candidate
        if candidate.verdict is CandidateVerdict.ELIGIBLE:
            if name in (unschedulable or {}):
                why = Problem("", (unschedulable or {})[name] or "no node had room for it")
                candidate = Candidate(name, CandidateVerdict.UNSCHEDULABLE, (why,))
            elif chosen is None:
                chosen = fit
                candidate = Candidate(name, CandidateVerdict.CHOSEN)
        candidates.append(candidate)
    if chosen is None:
        return Placement(None, "", tuple(candidates), {})
    driver = known[chosen.candidate.driver]
    return Placement(
        driver=driver,
        virt_type=chosen.virt_type,
        candidates=tuple(candidates),
        labels=chosen.labels or {},
        absent=chosen.absent,
        launcher_image=enabled[driver.name].launcher_image,
        emulated=chosen.virt_type in driver.emulated_virt_types,
    )


def _enabled(config: KubeVirtConfiguration, known: Mapping[str, Driver]) -> dict[str, _Enabled]:
    if config.hypervisors is None:
        return {name: _Enabled(None, "") for name in known}
    aliases = {
        alias: (name, virt_type) for name, driver in known.items() for alias, virt_type in driver.aliases.items()
    }
    enabled: dict[str, _Enabled] = {}
    for entry in config.hypervisors:
        name, virt_type = aliases.get(entry.name or "", (entry.name or "", None))
        virt_types = None if virt_type is None else frozenset({virt_type})
        image = entry.launcher_image or ""
        if (before := enabled.get(name)) is not None:
            both = before.virt_types is not None and virt_types is not None
            virt_types = (before.virt_types or frozenset()) | (virt_types or frozenset()) if both else None
            image = before.launcher_image or image
        enabled[name] = _Enabled(virt_types, image)
    return enabled


def _order(
    spec: VirtualMachineInstanceSpec, enabled: Mapping[str, _Enabled], known: Mapping[str, Driver]
) -> Iterable[str]:
    choice = spec.hypervisor
    if choice is not None and choice.driver:
        return [choice.driver]
    if choice is not None and choice.any_of:
        return list(dict.fromkeys(choice.any_of))
    return list(dict.fromkeys(chain(enabled, known)))


def _consider(
    name: str,
    known: Mapping[str, Driver],
    enabled: Mapping[str, _Enabled],
    spec: VirtualMachineInstanceSpec,
    needs: Sequence[tuple[Feature, Sequence[str]]],
    nodes: Sequence[Mapping[str, str]],
    emulation: bool,
) -> _Fit:
    driver = known.get(name)
    if driver is None:
        what = f"there is no driver {name!r}; known are {', '.join(known)}"
        return _refused(name, CandidateVerdict.NOT_ENABLED, [Problem(CHOICE, what, "FieldValueNotSupported")])
    if name not in enabled:
        what = f"{driver.title} is not enabled in this cluster's configuration"
        return _refused(name, CandidateVerdict.NOT_ENABLED, [Problem(CHOICE, what, "FieldValueForbidden")])
    refusals: list[Problem] = []
    conditions: list[tuple[Feature, Sequence[str], Support]] = []
    for feature, paths in needs:
        support = answer(driver, feature)
        if support.verdict is Verdict.CONDITIONAL:
            conditions.append((feature, paths, support))
        elif support.verdict is not Verdict.SUPPORTED:
            why = support.reason
            if support is UNKNOWN or not why:
                why = f"{driver.title} is not known to support {feature.title}"
            beyond = excess(driver, feature, paths)
            refusals += [Problem(path, why, "FieldValueNotSupported", feature.id) for path in beyond]
    virt_types, problems = _virt_types(driver, enabled[name], spec, conditions)
    refusals += problems
    if refusals:
        return _refused(name, CandidateVerdict.UNSUPPORTED, refusals)
    return _find_nodes(driver, virt_types, conditions, spec, nodes, emulation)


def _virt_types(
    driver: Driver,
    enabled: _Enabled,
    spec: VirtualMachineInstanceSpec,
    conditions: Sequence[tuple[Feature, Sequence[str], Support]],
) -> tuple[list[str], list[Problem]]:
    wanted = spec.hypervisor.virt_type if spec.hypervisor else None
    usable = [v for v in driver.virt_types if not wanted or v == wanted]
    if not usable:
        what = f"{driver.title} has no virt type {wanted!r}; it has {', '.join(driver.virt_types)}"
        return [], [Problem(f"{CHOICE}.virtType", what, "FieldValueNotSupported")]
    if enabled.virt_types is not None:
        usable = [v for v in usable if v in enabled.virt_types]
        if not usable:
            what = f"this cluster enables {driver.title} only with {', '.join(sorted(enabled.virt_types))}"
            return [], [Problem(f"{CHOICE}.virtType", what, "FieldValueForbidden")]
    problems = []
    for feature, paths, support in conditions:
        if support.virt_types:
            usable = [v for v in usable if v in support.virt_types]
            if not usable:
                why = support.reason or f"{feature.title} needs virt type {' or '.join(support.virt_types)}"
                problems += [Problem(path, why, "FieldValueNotSupported", feature.id) for path in paths]
                break
    return usable, problems


def _find_nodes(
    driver: Driver,
    virt_types: Sequence[str],
    conditions: Sequence[tuple[Feature, Sequence[str], Support]],
    spec: VirtualMachineInstanceSpec,
    nodes: Sequence[Mapping[str, str]],
    emulation: bool,
) -> _Fit:
    labels: Labels = {driver_label(driver.name): ("true",)}
    problems: list[Problem] = []
    if not any(_shows(node, labels) for node in nodes):
        what = f"no suitable node advertises {driver.title} (label {driver_label(driver.name)})"
        return _refused(driver.name, CandidateVerdict.NO_NODE, [Problem(CHOICE, what, "FieldValueNotSupported")])
    if spec.architecture:
        labels[ARCH_LABEL] = (spec.architecture,)
        if not any(_shows(node, labels) for node in nodes):
            what = f"no {spec.architecture} node offers {driver.title} (label {ARCH_LABEL})"
            problem = Problem("spec.architecture", what, "FieldValueNotSupported")
            return _refused(driver.name, CandidateVerdict.NO_NODE, [problem])
    absent: list[str] = []
    for feature, paths, support in conditions:
        needed = _condition_labels(driver.name, feature.id, support)
        if support.node_cpu:
            needed |= dict.fromkeys(cpu.wanted(spec, feature.id), ("true",))
            absent += cpu.forbidden(spec) if feature.id == "cpu.features" else []
        for label, values in needed.items():
            labels[label] = tuple(v for v in labels.get(label, values) if v in values)
        if needed and not any(_shows(node, needed) for node in nodes):
            why = f"no node shows {feature.title} for {driver.title}"
            why += f" (label {', '.join(needed)})" if support.node_cpu else ""
            why += f": {support.reason}" if support.reason else ""
            problems += [Problem(path, why, "FieldValueNotSupported", feature.id) for path in paths]
    nodes = [node for node in nodes if not any(label in node for label in absent)]
    held_back: list[str] = []
    for virt_type in virt_types:
        wanted = labels | {virt_type_label(driver.name, virt_type): ("true",)}
        if not any(_shows(node, wanted) for node in nodes):
            continue
        if virt_type in driver.emulated_virt_types and not emulation:
            held_back.append(virt_type)
            continue
        return _Fit(Candidate(driver.name, CandidateVerdict.ELIGIBLE), virt_type, wanted, tuple(absent))
    if held_back:
        what = (
            f"nodes offer {driver.title} only as software emulation ({', '.join(held_back)}); allow it by {EMULATION}"
        )
        problems.append(Problem(CHOICE, what, "FieldValueForbidden"))
    elif not problems:
        what = f"no node runs {driver.title} as {' or '.join(virt_types)} with all that this machine needs"
        problems.append(Problem(CHOICE, what, "FieldValueNotSupported"))
    return _refused(driver.name, CandidateVerdict.NO_NODE, problems)


def _condition_labels(driver: str, feature: str, support: Support) -> Labels:
    labels: Labels = {}
    if support.node_fact or support.min_libvirt or support.min_hypervisor:
        labels[feature_label(driver, feature)] = ("true",)
    if support.architectures:
        labels[ARCH_LABEL] = tuple(ARCHITECTURES.get(a, a) for a in support.architectures)
    return labels


def _refused(driver: str, verdict: CandidateVerdict, problems: Iterable[Problem]) -> _Fit:
    return _Fit(Candidate(driver, verdict, tuple(problems)))


def _labels(node: Obj) -> Mapping[str, str]:
    return node["metadata"].get("labels") or {}


def _selected(labels: Mapping[str, str], spec: VirtualMachineInstanceSpec) -> bool:
    return all(labels.get(key) == value for key, value in (spec.node_selector or {}).items())


def _shows(labels: Mapping[str, str], wanted: Mapping[str, tuple[str, ...]]) -> bool:
    return all(labels.get(key) in values for key, values in wanted.items())
