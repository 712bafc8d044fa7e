"""What admission does for a VirtualMachinePool: its template is held to the rules of a VirtualMachine.

Nothing is filled in: each virtual machine gets its own defaults when it is made. A pool whose template cannot make a
virtual machine is refused, so that a broken one leaves nothing behind.
"""

from __future__ import annotations

import copy

from polyvisor.admission import made
from polyvisor.admission.context import AdmissionContext
from polyvisor.admission.machines import admit_machine
from polyvisor.admission.replica_sets import selects
from polyvisor.admission.values import Findings, mapping, number, text
from polyvisor.api import Obj, VirtualMachinePool, check, selectors
from polyvisor.api.durations import seconds_of
from polyvisor.api.metadata import check_metadata
from polyvisor.api.pools import StatePreservation
from polyvisor.api.problems import Problem
from polyvisor.api.resources import VMS
from polyvisor.placement.permission import ANNOTATION

TEMPLATE = "spec.virtualMachineTemplate"
STRATEGIES = ("unmanaged", "opportunistic", "proactive")


def admit_pool(pool: Obj, old: Obj | None, context: AdmissionContext, found: Findings) -> None:
    """Check a VirtualMachinePool."""
    if old is not None and pool.get("spec") == old.get("spec"):
        found.problems += check_metadata(pool.get("metadata"))
        return
    found.problems += check(VirtualMachinePool, pool)
    spec = mapping(pool, "spec")
    wanted = number(spec.get("replicas"))
    if wanted is not None and wanted < 0:
        found.add("spec.replicas", f"found {wanted}; 0 or more are accepted")
    wrong = selectors.problems(spec.get("selector"), "spec.selector")
    found.problems += wrong
    if old is not None and spec.get("selector") != mapping(old, "spec").get("selector"):
        found.add("spec.selector", "cannot be changed; create a new pool for another selector", "FieldValueForbidden")
    _unavailable(spec.get("maxUnavailable"), found)
    _healing(mapping(spec, "autohealing"), found)
    for field in ("updateStrategy", "scaleInStrategy"):
        given = [name for name in STRATEGIES if mapping(spec, field).get(name) is not None]
        if len(given) > 1:
            found.add(f"spec.{field}", f"found {', '.join(given)}; only one strategy is accepted at a time")
        policy, path = mapping(spec, field, "proactive", "selectionPolicy"), f"spec.{field}.proactive.selectionPolicy"
        labels = mapping(policy, "selectors").get("labelSelector")
        found.problems += selectors.problems(labels, f"{path}.selectors.labelSelector")
    for strategy in ("opportunistic", "proactive"):
        chosen = mapping(spec, "scaleInStrategy", strategy).get("statePreservation")
        if chosen == StatePreservation.ONLINE:
            where = f"spec.scaleInStrategy.{strategy}.statePreservation"
            found.warnings.append(f"{where}: Online keeps the claims as Offline does; memory is not kept")
    template = spec.get("virtualMachineTemplate")
    if not isinstance(template, dict):
        return
    if isinstance(spec.get("selector"), dict) and not wrong:
        selects(spec["selector"], mapping(template, "metadata", "labels"), found)
    found.problems += check_metadata(template.get("metadata"), f"{TEMPLATE}.metadata")
    if not isinstance(template.get("spec"), dict):
        if template.get("spec") is None:
            found.required(f"{TEMPLATE}.spec", "required; the virtual machine's spec")
        return
    inner = Findings()
    vm, before = machine_of(pool), machine_of(old) if old is not None else None
    admit_machine(copy.deepcopy(vm), None, context, inner)
    made.judge(pool, vm, before, context, inner, "")
    known = {problem.field for problem in found.problems}
    found.problems += [one for problem in inner.problems if (one := _placed(problem)).field not in known]
    found.warnings += [
        f"{TEMPLATE}.{warning}" if warning.startswith("spec.") else warning for warning in inner.warnings
    ]


def machine_of(pool: Obj) -> Obj:
    """Return the virtual machine that a pool's template describes, as admission judges it."""
    template, metadata = mapping(pool, "spec", "virtualMachineTemplate"), mapping(pool, "metadata")
    inner = mapping(template, "metadata")
    kept = {key: inner[key] for key in ("labels",) if isinstance(inner.get(key), dict)}
    own = {key: value for key, value in mapping(inner, "annotations").items() if key != ANNOTATION}
    annotations = {**own, **_permission(metadata)}
    named = {"name": f"{text(metadata.get('name')) or 'pool'}-0", "namespace": metadata.get("namespace")}
    return {
        "apiVersion": VMS.api_version,
        "kind": VMS.kind,
        "metadata": {**kept, **named, **({"annotations": annotations} if annotations else {})},
        "spec": copy.deepcopy(mapping(template, "spec")),
    }


def _permission(metadata: Obj) -> Obj:
    return {key: value for key, value in mapping(metadata, "annotations").items() if key == ANNOTATION}


def _placed(problem: Problem) -> Problem:
    """Return a problem of the virtual machine with the place that it has in the pool."""
    field = problem.field
    if field.startswith("metadata.name"):
        return Problem("metadata.name", problem.message, problem.reason, problem.feature)
    return Problem(f"{TEMPLATE}.{field}" if field else TEMPLATE, problem.message, problem.reason, problem.feature)


def _unavailable(value: object, found: Findings) -> None:
    path, accepted = "spec.maxUnavailable", "a number of at least 1, or a percentage from 1% to 100%, is accepted"
    if isinstance(value, str):
        share = value.removesuffix("%")
        right = (
            value.endswith("%") and share.isascii() and share.isdigit() and len(share) < 4 and 1 <= int(share) <= 100
        )
        if not right:
            found.add(path, f"found {value[:40]!r}; {accepted}")
    elif isinstance(value, int) and not isinstance(value, bool) and value < 1:
        found.add(path, f"found {value}; {accepted}")


def _healing(autohealing: Obj, found: Findings) -> None:
    threshold = number(autohealing.get("startUpFailureThreshold"))
    if threshold is not None and threshold < 1:
        found.add("spec.autohealing.startUpFailureThreshold", f"found {threshold}; 1 or more are accepted")
    if isinstance(patience := autohealing.get("minFailingToStartDuration"), str):
        try:
            seconds_of(patience)
        except ValueError as error:
            found.add("spec.autohealing.minFailingToStartDuration", str(error))
