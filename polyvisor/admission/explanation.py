"""For one manifest: every driver's verdict, why, and the smallest change with which the driver would take it.

Nothing here needs a cluster or a hypervisor: the manifest, the configuration and the drivers' tables are enough. What
is wrong with the manifest whatever the driver stands apart from what single drivers lack.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from polyvisor.admission import AdmissionContext, admit, endpoint_choice, instancetypes
from polyvisor.admission.changes import Change, smallest
from polyvisor.admission.hypervisor import Lack, allowed, lacks
from polyvisor.admission.values import Findings, mapping, text
from polyvisor.api import Obj, Problem, VirtualMachineInstanceSpec
from polyvisor.api.resources import VMIS, VMS, Resource
from polyvisor.drivers.answers import link
from polyvisor.drivers.base import Driver, Support, Verdict
from polyvisor.drivers.features import Feature, asked
from polyvisor.drivers.verdict import Asked, answer


class Fit(StrEnum):
    """What a driver says of a whole manifest."""

    RUNS = "Runs"
    CONDITIONAL = "Conditional"
    UNSUPPORTED = "Unsupported"


@dataclass(frozen=True, slots=True)
class Condition:
    """A feature that the driver has only where something holds."""

    feature: Feature
    support: Support
    fields: tuple[str, ...]

    @property
    def text(self) -> str:
        """The condition in words."""
        needs = self.support.needs
        return f"{self.feature.title}: {self.support.reason}" + (f" (needs {', '.join(needs)})" if needs else "")


@dataclass(frozen=True, slots=True)
class DriverVerdict:
    """One driver's answer. ``changes`` is None where no small change makes it fit."""

    driver: Driver
    fit: Fit
    allowed: bool
    lacks: tuple[Lack, ...] = ()
    conditions: tuple[Condition, ...] = ()
    changes: tuple[Change, ...] | None = ()

    def to_obj(self) -> Obj:
        """Return the verdict as JSON."""
        return {
            "driver": self.driver.name,
            "title": self.driver.title,
            "verdict": str(self.fit),
            "allowed": self.allowed,
            "reasons": [_reason(lack.feature, lack.support, lack.fields, lack.reason) for lack in self.lacks],
            "conditions": [_reason(c.feature, c.support, c.fields, c.text) for c in self.conditions],
            "changes": None if self.changes is None else [change.to_obj() for change in self.changes],
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """What was found out about one manifest."""

    kind: str
    namespace: str
    name: str
    drivers: tuple[DriverVerdict, ...]
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    @property
    def runs(self) -> bool:
        """Whether the manifest as it is written can run on some driver that it allows."""
        return not self.problems and any(v.allowed and v.fit is not Fit.UNSUPPORTED for v in self.drivers)

    def to_obj(self) -> Obj:
        """Return everything as JSON."""
        problems = [{"field": p.field, "reason": p.reason, "message": p.message} for p in self.problems]
        return {
            "kind": self.kind,
            "namespace": self.namespace,
            "name": self.name,
            "runs": self.runs,
            "problems": problems,
            "warnings": list(self.warnings),
            "drivers": [verdict.to_obj() for verdict in self.drivers],
        }


def explain(resource: Resource, obj: Obj, context: AdmissionContext) -> Explanation:
    """Judge a VirtualMachine, a VirtualMachineInstance or a set of these against every driver that is installed."""
    decided = admit("CREATE", resource, obj, None, context)
    path = "spec" if resource == VMIS else "spec.template.spec"
    spec = filled_in(obj, context) if resource == VMS else mapping(obj, *path.split("."))
    metadata = mapping(obj, "metadata")
    try:
        parsed = VirtualMachineInstanceSpec.model_validate(spec)
    except ValidationError:
        verdicts: tuple[DriverVerdict, ...] = ()
    else:
        there, _ = endpoint_choice.at(spec, context)
        named, wanted = allowed(spec, there.configuration, there.drivers), asked(parsed)
        verdicts = tuple(_verdict(driver, spec, path, wanted, driver in named) for driver in there.drivers)
    return Explanation(
        kind=resource.kind,
        namespace=text(metadata.get("namespace")),
        name=text(metadata.get("name")) or text(metadata.get("generateName")),
        drivers=verdicts,
        problems=tuple(problem for problem in decided.problems if not problem.feature),
        warnings=tuple(decided.warnings),
    )


def filled_in(vm: Obj, context: AdmissionContext) -> Obj:
    """Return the spec of a machine's instance, with its instance type and preference as far as they are known."""
    whole, found = copy.deepcopy(vm), Findings()
    known = instancetypes.infer(whole, context.lookup, found)
    expansion = instancetypes.expand(whole, None, context.lookup, found) if known else None
    return expansion.spec if expansion else mapping(vm, "spec", "template", "spec")


def _verdict(driver: Driver, spec: Obj, path: str, wanted: Asked, named: bool) -> DriverVerdict:
    given = text(mapping(spec, "hypervisor").get("virtType"))
    virt_type = given if given in driver.virt_types else ""
    found = lacks(driver, wanted, virt_type)
    lacking = [Lack(driver, lack.feature, lack.support, _at(path, lack.fields)) for lack in found]
    if lacking:
        changes = smallest(driver, spec, path, virt_type)
        return DriverVerdict(driver, Fit.UNSUPPORTED, named, tuple(lacking), changes=changes)
    conditions = tuple(
        Condition(feature, support, _at(path, fields))
        for feature, fields in wanted
        if (support := answer(driver, feature)).verdict is Verdict.CONDITIONAL
    )
    return DriverVerdict(driver, Fit.CONDITIONAL if conditions else Fit.RUNS, named, conditions=conditions)


def _at(path: str, fields: Any) -> tuple[str, ...]:
    return tuple(path + field.removeprefix("spec") for field in fields)


def _reason(feature: Feature, support: Support, fields: tuple[str, ...], message: str) -> Obj:
    reason: Obj = {"fields": list(fields), "feature": feature.id, "title": feature.title, "message": message}
    reason["source"] = support.source
    if address := link(support.source):
        reason["link"] = address
    return reason
