"""The whole of it: a machine, what it refers to, and the instance that comes out."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field, replace
from typing import Any

from polyvisor.admission.context import Lookup
from polyvisor.admission.instancetypes import requirements
from polyvisor.admission.instancetypes.apply import apply, conflicts
from polyvisor.admission.instancetypes.cpu import spread_error
from polyvisor.admission.instancetypes.preferences import fill, fill_templates
from polyvisor.admission.instancetypes.sources import FIELDS, Field, Source, find
from polyvisor.admission.values import Findings, mapping, number
from polyvisor.api import Obj, Problem

TEMPLATE = "spec.template"
_PART = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


@dataclass(frozen=True)
class Expansion:
    """What the instance of a machine is made from: its spec and annotations, and where they come from."""

    spec: Obj
    annotations: Obj
    sources: dict[Field, Source] = field(default_factory=dict)
    steps: tuple[Obj, Obj] = ({}, {})
    """The spec as the machine has it, and with its instance type; by these a field's origin is told."""

    def explained(self, problem: Problem) -> Problem:
        """Say of a problem where its field comes from, if the machine does not have it itself."""
        path = problem.field.removeprefix(f"{TEMPLATE}.spec.")
        own, sized = self.steps
        if path == problem.field or not self.sources or _there(own, path) or not _there(self.spec, path):
            return problem
        source = self.sources.get("instancetype" if _there(sized, path) else "preference")
        return replace(problem, message=f"{problem.message} (it comes from {source})") if source else problem


def expand(vm: Obj, status: Obj | None, lookup: Lookup, found: Findings) -> Expansion | None:
    """Return the expansion of a machine; None, with problems in ``found``, if it has none."""
    template = mapping(vm, "spec", "template")
    own = mapping(template, "spec")
    spec, annotations = copy.deepcopy(own), dict(mapping(template, "metadata", "annotations"))
    before = len(found.problems)
    sources = {name: source for name in FIELDS if (source := find(vm, name, status, lookup, found)) is not None}
    if len(found.problems) > before:
        return None
    if not sources:
        return Expansion(spec, annotations)
    given = sources["instancetype"].spec if "instancetype" in sources else None
    preference = sources["preference"].spec if "preference" in sources else {}
    if given is not None:
        if error := spread_error(number(mapping(given, "cpu").get("guest")) or 1, preference):
            found.add("spec.instancetype", error)
        for path in conflicts(given, own, annotations):
            whole = f"{TEMPLATE}.{path}"
            found.add(whole, f"VM field(s) {whole} conflicts with selected instance type")
    requirements.check(given, preference, own, found)
    if len(found.problems) > before:
        return None
    if given is not None:
        apply(given, preference, spec, annotations)
    sized = copy.deepcopy(spec)
    fill(preference, spec, annotations)
    return Expansion(spec, annotations, sources, (own, sized))


def expanded_machine(vm: Obj, expansion: Expansion) -> Obj:
    """Return the machine with everything written out, and no reference left."""
    found: Obj = copy.deepcopy(vm)
    if not expansion.sources:
        return found
    for name in FIELDS:
        found["spec"].pop(name, None)
    if preference := expansion.sources.get("preference"):
        fill_templates(preference.spec, found)
    template = found["spec"]["template"]
    template["spec"] = expansion.spec
    if expansion.annotations:
        template.setdefault("metadata", {})["annotations"] = expansion.annotations
    return found


def _there(spec: Any, path: str) -> bool:
    for word, index in _PART.findall(path):
        try:
            spec = spec[int(index)] if index else spec[word]
        except (KeyError, IndexError, TypeError):
            return False
    return spec is not None
