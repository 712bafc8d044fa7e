"""What machines of these tests may refer to, and machines that do."""

from __future__ import annotations

from typing import Any

from polyvisor.admission import AdmissionContext, admit
from polyvisor.admission.instancetypes import expand
from polyvisor.admission.values import Findings
from polyvisor.api import Obj
from polyvisor.api.resources import VMS, Resource
from tests.admission.conftest import Change, machine

BASE = "spec.template.spec.domain"


class Shelf:
    """The objects that a machine may refer to."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Obj] = {}

    def put(self, resource: Resource, name: str, spec: Obj | None = None, **fields: Any) -> Obj:
        namespace = "default" if resource.namespaced else ""
        obj: Obj = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": name, "uid": f"uid-{name}", "generation": 1, **fields.pop("metadata", {})},
            **({"spec": spec} if spec is not None else {}),
            **fields,
        }
        self.objects[resource.plural, namespace, name] = obj
        return obj

    def __call__(self, resource: Resource, namespace: str, name: str) -> Obj | None:
        return self.objects.get((resource.plural, namespace, name))


def sized(change: Change | None = None, kind: str = "", **spec: Any) -> Obj:
    """Return a machine that leaves its size to the instance type ``small``."""

    def bare(template: Obj) -> None:
        del template["domain"]["cpu"], template["domain"]["memory"]
        if change:
            change(template)

    return machine(bare, instancetype={"name": "small", **({"kind": kind} if kind else {})}, **spec)


def instance_spec(vm: Obj, shelf: Shelf, status: Obj | None = None) -> Obj:
    found = Findings()
    expansion = expand(vm, status, shelf, found)
    assert expansion is not None, found.problems
    return expansion.spec


def refused(vm: Obj, context: AdmissionContext, old: Obj | None = None) -> list[tuple[str, str]]:
    found = admit("UPDATE" if old else "CREATE", VMS, vm, old, context)
    return [(one.field, one.message) for one in found.problems]
