"""The decision itself: allowed by the machine, enabled in the cluster, features supported, some node advertises it.

The order of preference is the machine's own (``anyOf``), else the configuration's, else the registry's. A conditional
feature is not decided here but becomes a label that the node must show; the driver is eligible if one node shows all
of its labels. What the feature table does not know counts as unsupported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from polyvisor.api.names import (
    ARCH_LABEL,
    CandidateVerdict,
    driver_label,
    feature_label,
    virt_type_label,
)
from polyvisor.api.node_names import ENDPOINT_LABEL
from polyvisor.api.problems import Problem
from polyvisor.api.reading import labels_of
from polyvisor.drivers import enablement
from polyvisor.drivers.at_endpoint import at_endpoint
from polyvisor.drivers.base import Driver, Support, Verdict
from polyvisor.drivers.enablement import Enabled
from polyvisor.drivers.features import Feature, asked
from polyvisor.drivers.isolation import told
from polyvisor.drivers.verdict import UNKNOWN, answer, excess
from polyvisor.machine import Choice
from polyvisor.placement import cpu, machine_types
from polyvisor.placement.offers import NOWHERE, Elsewhere, Offer
from polyvisor.placement.permission import anything
from polyvisor.placement.reports import reasons
from polyvisor.placement.requirements import CountedNode, Requirement, counted, number, selectors, unmet
from polyvisor.placement.result import Candidate, Placement

if TYPE_CHECKING:
    from polyvisor.api import KubeVirtConfiguration, Obj, VirtualMachineInstanceSpec

ARCHITECTURES: Mapping[str, str] = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
"""libvirt's names of architectures -> those in a node's label; the rest are the same."""
CHOICE = "spec.hypervisor"
SELECTOR = "spec.nodeSelector"
EMULATION = "spec.configuration.developerConfiguration.useEmulation of the KubeVirt object"

Labels = dict[str, tuple[str, ...]]


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
    alike: Callable[[str], int] | None = None,
    permits: Callable[[Driver], bool] = anything,
    there_already: bool = False,
    beside: Elsewhere = NOWHERE,
) -> Placement:
    """Choose the driver for a machine, and the endpoint if no node of the cluster fits a machine that names none.

    ``drivers`` come in the order of preference that holds where nothing else is said. ``unschedulable`` names drivers
    whose Pod found no node, with the scheduler's words. ``alike`` says how many nodes each of ``nodes`` stands for,
    ``permits`` whether the writer of the machine was allowed to have a driver. ``there_already``: the machine's domain
    is on the endpoint's host as it is, so that its node need not show what the domain takes. ``beside`` are endpoints
    that the machine may go to, of which ``unschedulable`` names drivers as ``DRIVER@ENDPOINT``.
    """
    nodes, drivers, tried = list(nodes), list(drivers), unschedulable or {}

    def at(endpoint: str, named: Mapping[str, str]) -> Placement:
        return _place_at(
            endpoint,
            spec,
            config,
            nodes,
            drivers,
            unschedulable=named,
            alike=alike,
            permits=permits,
            there_already=there_already,
        )

    named = Choice.of(spec).endpoint
    if named:
        return at(named, tried)
    found = at("", tried)
    if beside.tied:
        tied = tuple(Candidate(one.driver, CandidateVerdict.NO_NODE, beside.tied) for one in found.candidates)
        found = Placement(None, "", tied, {})
    for offer in beside.offers if found.driver is None else ():
        ending = f"@{offer.endpoint}"
        there = at(offer.endpoint, {k.removesuffix(ending): why for k, why in tried.items() if k.endswith(ending)})
        found = _joined(found, there, offer)
        if found.driver is not None:
            break
    return found


def _joined(found: Placement, there: Placement, offer: Offer) -> Placement:
    """Return a placement with what an endpoint adds to it: its candidates, and the choice if it fits."""
    fits = there.driver is not None and not offer.problems
    candidates = [replace(one, endpoint=offer.endpoint) for one in there.candidates]
    if offer.problems:
        near = (CandidateVerdict.CHOSEN, CandidateVerdict.ELIGIBLE)
        verdicts = [CandidateVerdict.NO_NODE if one.verdict in near else one.verdict for one in candidates]
        candidates = [
            replace(one, verdict=verdict, reasons=(*offer.problems, *one.reasons))
            for one, verdict in zip(candidates, verdicts, strict=True)
        ]
    all_of_them = (*found.candidates, *candidates)
    return replace(there if fits else found, candidates=all_of_them, offered=fits)


def _place_at(
    endpoint: str,
    spec: VirtualMachineInstanceSpec,
    config: KubeVirtConfiguration,
    nodes: Iterable[Obj],
    drivers: Iterable[Driver],
    *,
    unschedulable: Mapping[str, str],
    alike: Callable[[str], int] | None,
    permits: Callable[[Driver], bool],
    there_already: bool,
) -> Placement:
    """Choose the driver on the nodes of the cluster, or on an endpoint's."""
    choice = Choice.of(spec)
    known = {driver.name: at_endpoint(driver) if endpoint else driver for driver in drivers}
    listed = [(entry.name or "", entry.launcher_image or "") for entry in config.hypervisors or []]
    enabled = enablement.enabled(listed, known)
    needs = asked(spec)
    there = counted((node for node in nodes if endpoint_of(node) == endpoint), alike)
    if endpoint and not there:
        return _unreached(endpoint, _order(choice, enabled, known))
    if endpoint:  # its host has one driver, and no other is worth a word
        known = {
            name: one for name, one in known.items() if any(driver_label(name) in n.labels for n in there)
        } or known
        # whoever added the endpoint has enabled its driver
        enabled = {name: one for name, one in enabled.items() if name in known} or enablement.enabled([], known)
    developer = config.developer_configuration
    emulation = bool(developer and developer.use_emulation)
    candidates: list[Candidate] = []
    chosen: _Fit | None = None
    for name in _order(choice, enabled, known):
        fit = _consider(name, known, enabled, spec, needs, there, emulation, permits, there_already)
        candidate = fit.candidate
        if candidate.verdict is CandidateVerdict.ELIGIBLE:
            if name in unschedulable:
                why = Problem("", unschedulable[name] or "no node had room for it")
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
        labels={**(chosen.labels or {}), **({ENDPOINT_LABEL: (endpoint,)} if endpoint else {})},
        absent=chosen.absent if endpoint else (*chosen.absent, ENDPOINT_LABEL),
        endpoint=endpoint,
        launcher_image=enabled[driver.name].launcher_image,
        emulated=chosen.virt_type in driver.emulated_virt_types,
    )


def endpoint_of(node: Obj) -> str:
    """Return the endpoint whose host a node stands for, empty for a node of the cluster's own."""
    return str(labels_of(node).get(ENDPOINT_LABEL) or "")


def _unreached(endpoint: str, names: Iterable[str]) -> Placement:
    """Say that the endpoint which a machine names has no node that takes machines."""
    what = f"endpoint {endpoint} takes no machines now; `polyvisor endpoint show {endpoint}` says why"
    problem = Problem(f"{CHOICE}.endpoint", what)
    return Placement(None, "", tuple(Candidate(name, CandidateVerdict.NO_NODE, (problem,)) for name in names), {})


def _order(choice: Choice, enabled: Iterable[str], known: Iterable[str]) -> Iterable[str]:
    return choice.drivers or list(dict.fromkeys(chain(enabled, known)))


def _consider(
    name: str,
    known: Mapping[str, Driver],
    enabled: Mapping[str, Enabled],
    spec: VirtualMachineInstanceSpec,
    needs: Sequence[tuple[Feature, Sequence[str]]],
    nodes: Sequence[CountedNode],
    emulation: bool,
    permits: Callable[[Driver], bool],
    there_already: bool,
) -> _Fit:
    driver = known.get(name)
    if driver is None:
        what = f"there is no driver {name!r}; known are {', '.join(known)}"
        return _refused(name, CandidateVerdict.NOT_ENABLED, [Problem(CHOICE, what, "FieldValueNotSupported")])
    if name not in enabled:
        what = f"{driver.title} is not enabled in this cluster's configuration"
        return _refused(name, CandidateVerdict.NOT_ENABLED, [Problem(CHOICE, what, "FieldValueForbidden")])
    if not permits(driver):
        what = f"who wrote the machine may not use {driver.title}, which isolates guests less ({told(driver)})"
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
    return _find_nodes(driver, virt_types, () if there_already else conditions, spec, nodes, emulation)


def _virt_types(
    driver: Driver,
    enabled: Enabled,
    spec: VirtualMachineInstanceSpec,
    conditions: Sequence[tuple[Feature, Sequence[str], Support]],
) -> tuple[list[str], list[Problem]]:
    wanted = Choice.of(spec).virt_type
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
    nodes: Sequence[CountedNode],
    emulation: bool,
) -> _Fit:
    """Find out whether some node shows all that a machine needs of it with the driver."""
    labels: Labels = {}
    required = selectors(spec)
    absent = cpu.forbidden(spec) if any(feature.id == "cpu.features" for feature, _, _ in conditions) else []
    for feature, paths, support in conditions:
        needed = _condition_labels(driver.name, feature.id, support)
        if support.node_cpu:
            needed |= dict.fromkeys(cpu.wanted(spec, feature.id), ("true",))
        needed |= dict.fromkeys(machine_types.wanted(spec, support), ("true",))
        for label, values in needed.items():
            labels[label] = tuple(v for v in labels.get(label, values) if v in values)
        without = absent if feature.id == "cpu.features" else []
        if needed or without:
            words = _why_not(driver, feature, support, needed, nodes)
            title = f"{feature.title} for {driver.title}"
            required.append(Requirement(paths, title, words, _meets(needed, without), feature.id))
    required += _ways(driver, virt_types, conditions, spec)
    if spec.architecture:
        labels[ARCH_LABEL] = (spec.architecture,)
        words = f"no {spec.architecture} node offers {driver.title} (label {ARCH_LABEL})"
        met = _meets({ARCH_LABEL: (spec.architecture,)})
        required.append(Requirement(("spec.architecture",), f"architecture {spec.architecture}", words, met))
    labels[driver_label(driver.name)] = ("true",)
    words = f"no suitable node advertises {driver.title} (label {driver_label(driver.name)})"
    if not any(driver_label(driver.name) in node.labels for node in nodes):
        why = reasons((node.report for node in nodes), driver.name)
        words += f": {why}" if why else ""
    advertised = Requirement((CHOICE,), driver.title, words, _meets({driver_label(driver.name): ("true",)}))
    left = [node for node in nodes if all(one.met(node.labels) for one in required if one.fields[0] != CHOICE)]
    held_back: list[str] = []
    for virt_type in virt_types:
        wanted = labels | {virt_type_label(driver.name, virt_type): ("true",)}
        if not any(_shows(node.labels, wanted) for node in left):
            continue
        if virt_type in driver.emulated_virt_types and not emulation:
            held_back.append(virt_type)
            continue
        return _Fit(Candidate(driver.name, CandidateVerdict.ELIGIBLE), virt_type, wanted, tuple(absent))
    if held_back:
        what = (
            f"nodes offer {driver.title} only as software emulation ({', '.join(held_back)}); allow it by {EMULATION}"
        )
        problems = [Problem(CHOICE, what, "FieldValueForbidden")]
    else:
        problems = _excluded(required, advertised, nodes)
    return _refused(driver.name, CandidateVerdict.NO_NODE, problems)


def _excluded(required: Sequence[Requirement], advertised: Requirement, nodes: Sequence[CountedNode]) -> list[Problem]:
    """Say which requirements exclude which nodes: those that have the driver, if the machine's labels leave any."""
    total = number(nodes)
    chosen = [one for one in required if one.fields[0].startswith(SELECTOR)]
    left = [node for node in nodes if all(one.met(node.labels) for one in chosen)]
    if total and not left:
        return unmet(chosen, nodes)
    having = [node for node in left if advertised.met(node.labels)]
    if not having:
        return [*unmet([advertised], left or nodes), *(unmet(chosen, nodes) if left != list(nodes) else [])]
    return [*unmet([one for one in required if one not in chosen], having), *_unless_none_left(chosen, nodes)]


def _unless_none_left(chosen: Sequence[Requirement], nodes: Sequence[CountedNode]) -> list[Problem]:
    return unmet([one for one in chosen if any(not one.met(node.labels) for node in nodes)], nodes)


def _ways(
    driver: Driver,
    virt_types: Sequence[str],
    conditions: Sequence[tuple[Feature, Sequence[str], Support]],
    spec: VirtualMachineInstanceSpec,
) -> list[Requirement]:
    """Return the requirement of a virt type, asked by the features that need it, or by the machine itself."""
    names = [virt_type_label(driver.name, virt_type) for virt_type in virt_types]
    offered = f"which no node offers (label {' or '.join(names)})"
    any_of = " or ".join(virt_types)
    way = f"{driver.title} as {any_of}"
    met = _meets_any(names)
    needing = [
        (f, paths, s) for f, paths, s in conditions if s.virt_types and set(s.virt_types) != set(driver.virt_types)
    ]
    if needing:
        return [
            Requirement(paths, way, f"{s.reason}: needs {driver.title} as {any_of}, {offered}", met, f.id)
            for f, paths, s in needing
        ]
    field = f"{CHOICE}.virtType" if Choice.of(spec).virt_type else CHOICE
    return [Requirement((field,), way, f"no node runs {driver.title} as {any_of} (label {' or '.join(names)})", met)]


def _why_not(
    driver: Driver, feature: Feature, support: Support, needed: Mapping[str, object], nodes: Sequence[CountedNode]
) -> str:
    why = f"no node shows {feature.title} for {driver.title}"
    if support.node_machine:
        (label,) = needed
        return f"{why} (label {label}); {machine_types.accepted(label, (node.labels for node in nodes))}"
    why += f" (label {', '.join(needed)})" if support.node_cpu else ""
    return why + (f": {support.reason}" if support.reason else "")


def _meets(needed: Mapping[str, tuple[str, ...]], without: Sequence[str] = ()) -> Callable[[Mapping[str, str]], bool]:
    return lambda labels: _shows(labels, needed) and not any(label in labels for label in without)


def _meets_any(names: Sequence[str]) -> Callable[[Mapping[str, str]], bool]:
    return lambda labels: any(labels.get(name) == "true" for name in names)


def _condition_labels(driver: str, feature: str, support: Support) -> Labels:
    labels: Labels = {}
    if support.node_fact or support.min_libvirt or support.min_hypervisor:
        labels[feature_label(driver, feature)] = ("true",)
    if support.architectures:
        labels[ARCH_LABEL] = tuple(ARCHITECTURES.get(a, a) for a in support.architectures)
    return labels


def _refused(driver: str, verdict: CandidateVerdict, problems: Iterable[Problem]) -> _Fit:
    return _Fit(Candidate(driver, verdict, tuple(problems)))


def _shows(labels: Mapping[str, str], wanted: Mapping[str, tuple[str, ...]]) -> bool:
    return all(labels.get(key) in values for key, values in wanted.items())
