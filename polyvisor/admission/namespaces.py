"""Hypervisors by namespace: what machines of some namespaces are given as ``spec.hypervisor`` if they name none.

``spec.configuration.hypervisorDefaults`` of the KubeVirt object is a list; the first entry whose selector matches the
labels of a machine's namespace holds. A VirtualMachine is stored without it, so that a changed default holds from
the machine's next start; its instance is stored with it. Whatever is told of such a machine names the default.
"""

from __future__ import annotations

import copy
from dataclasses import replace

from polyvisor.admission.context import AdmissionContext
from polyvisor.admission.hypervisor import validate_choice
from polyvisor.admission.values import Findings, items, mapping, text
from polyvisor.api import Obj, Problem, selectors
from polyvisor.api.resources import NAMESPACES
from polyvisor.drivers import DriverRegistry

PATH = "spec.configuration.hypervisorDefaults"


def give(spec: Obj, namespace: str, context: AdmissionContext) -> str:
    """Fill in ``spec.hypervisor``, in place; return where in the configuration it comes from, empty if nowhere."""
    listed = context.configuration.get("hypervisorDefaults")
    if not listed or mapping(spec, "hypervisor"):
        return ""
    labels = mapping(context.lookup(NAMESPACES, "", namespace), "metadata", "labels")
    for where, item in items(listed, PATH):
        if selectors.matches(mapping(item, "namespaceSelector"), labels):
            spec["hypervisor"] = copy.deepcopy(mapping(item, "hypervisor"))
            return where
    return ""


def explained(problem: Problem, where: str, path: str, namespace: str) -> Problem:
    """Say of a problem with the hypervisor of a machine, whose spec stands at ``path``, that it is a default."""
    if not where or not (problem.feature or problem.field.startswith(f"{path}.hypervisor")):
        return problem
    said = f"{problem.message} (the hypervisor is the default of namespace {namespace}: {where} of the KubeVirt object)"
    return replace(problem, message=said)


def told(spec: Obj, where: str, path: str, namespace: str) -> str:
    """Return the warning for a machine that was given a default."""
    choice = mapping(spec, "hypervisor")
    drivers = [text(choice.get("driver"))] if choice.get("driver") else choice.get("anyOf") or ["any"]
    return f"{path}.hypervisor: {' or '.join(drivers)}, the default of namespace {namespace} ({where})"


def validate(kubevirt: Obj, drivers: DriverRegistry, found: Findings) -> None:
    """Check the defaults in the cluster's configuration."""
    everywhere = ""
    for where, item in items(mapping(kubevirt, "spec", "configuration").get("hypervisorDefaults"), PATH):
        selector, choice = item.get("namespaceSelector"), mapping(item, "hypervisor")
        found.problems += selectors.problems(selector, f"{where}.namespaceSelector")
        if isinstance(item.get("hypervisor"), dict) and not choice:
            found.required(f"{where}.hypervisor", "required; driver or anyOf")
        validate_choice(choice, f"{where}.hypervisor", drivers, found)
        if everywhere:
            found.warnings.append(f"{where}: never holds, since {everywhere} before it is for all namespaces")
        elif isinstance(selector, dict) and not selectors.to_text(selector):
            everywhere = where
