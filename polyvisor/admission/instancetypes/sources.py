"""The objects that ``spec.instancetype`` and ``spec.preference`` of a machine stand for.

A machine that was seen by the controller has, in its status, the ControllerRevision of what it referred to then; that
is what holds, so that a later change of the instance type does not change the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from polyvisor.admission.context import Lookup
from polyvisor.admission.instancetypes.older import kept_object
from polyvisor.admission.values import Findings, mapping, text
from polyvisor.api import Obj
from polyvisor.api.resources import (
    CLUSTER_INSTANCETYPES,
    CLUSTER_PREFERENCES,
    CONTROLLER_REVISIONS,
    INSTANCETYPES,
    PREFERENCES,
    Resource,
)

Field = Literal["instancetype", "preference"]
FIELDS: tuple[Field, ...] = ("instancetype", "preference")
KINDS: Mapping[Field, tuple[Resource, Resource]] = {
    "instancetype": (CLUSTER_INSTANCETYPES, INSTANCETYPES),
    "preference": (CLUSTER_PREFERENCES, PREFERENCES),
}
"""The kinds that a field may refer to; the first if it does not say."""
NOT_FOUND: Final = "FieldValueNotFound"


@dataclass(frozen=True, slots=True)
class Source:
    """An instance type or preference, as it is now or as a ControllerRevision has kept it."""

    resource: Resource
    obj: Obj
    revision: str = ""

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.obj["metadata"]["name"])

    @property
    def spec(self) -> Obj:
        """What it says."""
        return mapping(self.obj, "spec")

    def __str__(self) -> str:
        return f"{self.resource.kind} {self.name}"


def kind_of(field: Field, word: str) -> Resource | None:
    """Return the kind that a reference names, in any case and number; the kind of the whole cluster for no word."""
    if not word:
        return KINDS[field][0]
    return next((one for one in KINDS[field] if word.lower() in (one.singular, one.plural)), None)


def revision_of(vm: Obj, field: Field, status: Obj | None) -> str:
    """Return the name of the ControllerRevision that holds for the machine, empty if there is none."""
    matcher, kept = mapping(vm, "spec", field), mapping(status, f"{field}Ref")
    if text(matcher.get("revisionName")):
        return text(matcher["revisionName"])
    same = text(kept.get("name")) == text(matcher.get("name")) and (
        kind_of(field, text(kept.get("kind"))) == kind_of(field, text(matcher.get("kind")))
    )
    return text(mapping(kept, "controllerRevisionRef").get("name")) if same else ""


def find(vm: Obj, field: Field, status: Obj | None, lookup: Lookup, found: Findings) -> Source | None:
    """Return what a field of the machine refers to, None if it is absent; a reference to nothing is a problem."""
    matcher, path = mapping(vm, "spec", field), f"spec.{field}"
    if not matcher:
        return None
    name, namespace = text(matcher.get("name")), text(mapping(vm, "metadata").get("namespace"))
    resource = kind_of(field, text(matcher.get("kind")))
    if resource is None:
        accepted = " or ".join(one.kind for one in KINDS[field])
        message = f"found {text(matcher['kind'])[:80]!r}; {accepted} is wanted"
        found.add(f"{path}.kind", message, "FieldValueNotSupported")
        return None
    if not name:
        found.required(f"{path}.name", f"required; the name of a {resource.kind}")
        return None
    revision = revision_of(vm, field, status)
    if revision:
        kept = lookup(CONTROLLER_REVISIONS, namespace, revision)
        data = kept_object(kept, resource, name) if kept is not None else None
        if data is not None:
            return Source(resource, data, revision)
        if matcher.get("revisionName"):
            what = "not found" if kept is None else f"is no revision of a {resource.kind}"
            found.add(f"{path}.revisionName", f'{CONTROLLER_REVISIONS.full_name} "{revision[:253]}" {what}', NOT_FOUND)
            return None
    obj = lookup(resource, namespace if resource.namespaced else "", name)
    if obj is None:
        found.add(path, f'Failure to find {field}: {resource.full_name} "{name[:253]}" not found', NOT_FOUND)
        return None
    return Source(resource, obj)
