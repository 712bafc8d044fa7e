"""Checks of what is common to all objects: type, metadata, immutable fields; the rest is the admit hook's.

They report problems and collect them; only what makes an object unusable as one (not a mapping, another kind) is an
error at once.
"""

from __future__ import annotations

from typing import Any

from polyvisor.api.metadata import check_metadata as check_shared
from polyvisor.api.metadata import check_name, dns_label_error
from polyvisor.api.problems import Problem, nearest
from polyvisor.api.resources import CONTROLLER_REVISIONS, NAMESPACES, Resource

from .errors import Obj, bad_request

_METADATA: dict[str, type] = {
    "name": str,
    "generateName": str,
    "namespace": str,
    "uid": str,
    "resourceVersion": str,
    "generation": int,
    "creationTimestamp": str,
    "deletionTimestamp": str,
    "deletionGracePeriodSeconds": int,
    "labels": dict,
    "annotations": dict,
    "ownerReferences": list,
    "finalizers": list,
    "managedFields": list,
    "selfLink": str,
}


def check_type(resource: Resource, obj: Any) -> Obj:
    """Make sure that ``obj`` is an object of this kind; return it with apiVersion, kind and metadata present."""
    if not isinstance(obj, dict):
        raise bad_request(f"the body must be a {resource.kind} object, not {type(obj).__name__}")
    for name, right in (("kind", resource.kind), ("apiVersion", resource.api_version)):
        found = obj.get(name) or right
        if found != right:
            raise bad_request(f'the {name} of the object ("{found}") does not match the one of the URL ("{right}")')
        obj[name] = right
    metadata = obj.get("metadata")
    if metadata is None:
        obj["metadata"] = {}
    elif not isinstance(metadata, dict):
        raise bad_request("metadata: must be an object")
    for name, value in list(obj["metadata"].items()):
        if value is None:
            del obj["metadata"][name]
        elif name in _METADATA and (not isinstance(value, _METADATA[name]) or isinstance(value, bool)):
            raise bad_request(f"metadata.{name}: must be a {_METADATA[name].__name__}, not {value!r}")
    for name in ("spec", "status"):
        if obj.get(name) is None:
            obj.pop(name, None)
        elif not isinstance(obj[name], dict):
            raise bad_request(f"{name}: must be an object, not {type(obj[name]).__name__}")
    return obj


def unknown_metadata(obj: Obj) -> list[str]:
    """Return the paths of metadata fields that do not exist."""
    return [f"metadata.{name}" for name in obj["metadata"] if name not in _METADATA]


def check_metadata(resource: Resource, obj: Obj) -> list[Problem]:
    """Check names, labels, annotations, owners and finalizers."""
    metadata = obj["metadata"]
    problems = [*check_name(metadata), *check_shared(metadata)]
    name = metadata.get("name", "")
    if resource is NAMESPACES and name and (error := dns_label_error(name)):
        problems = [one for one in problems if one.field != "metadata.name"]
        problems.append(Problem("metadata.name", error))
    for field in ("labels", "annotations"):
        for key, value in metadata.get(field, {}).items():
            if not isinstance(value, str):
                problems.append(Problem(f"metadata.{field}[{key}]", f"must be a string, not {value!r}"))
    for index, finalizer in enumerate(metadata.get("finalizers", [])):
        if not isinstance(finalizer, str):
            problems.append(Problem(f"metadata.finalizers[{index}]", f"must be a string, not {finalizer!r}"))
    return problems + _check_owners(metadata.get("ownerReferences", []))


def _check_owners(owners: list[Any]) -> list[Problem]:
    problems: list[Problem] = []
    controllers = 0
    for index, owner in enumerate(owners):
        path = f"metadata.ownerReferences[{index}]"
        if not isinstance(owner, dict):
            problems.append(Problem(path, "must be an object"))
            continue
        for field in ("apiVersion", "kind", "name", "uid"):
            if not isinstance(owner.get(field), str) or not owner[field]:
                problems.append(Problem(f"{path}.{field}", "must not be empty", "FieldValueRequired"))
        controllers += owner.get("controller") is True
    if controllers > 1:
        problems.append(Problem("metadata.ownerReferences", "only one reference can have controller set to true"))
    return problems


def check_update(resource: Resource, obj: Obj, old: Obj) -> list[Problem]:
    """Check that nothing immutable was changed."""
    problems: list[Problem] = []
    new_meta, old_meta = obj["metadata"], old["metadata"]
    for field in ("name", "namespace", "uid"):
        given = new_meta.get(field)
        if given and given != old_meta.get(field):
            problems.append(Problem(f"metadata.{field}", f"Invalid value: {given!r}: field is immutable"))
    if old_meta.get("deletionTimestamp"):
        known = set(old_meta.get("finalizers", []))
        added = [one for one in new_meta.get("finalizers", []) if one not in known]
        if added:
            message = f"no new finalizers can be added if the object is being deleted, found: {added}"
            problems.append(Problem("metadata.finalizers", message, "FieldValueForbidden"))
    if old.get("immutable") is True and resource.plural in ("secrets", "configmaps"):
        for field in ("data", "binaryData", "immutable"):
            if obj.get(field) != old.get(field):
                problems.append(Problem(field, "field is immutable when `immutable` is set", "FieldValueForbidden"))
    if resource is CONTROLLER_REVISIONS and obj.get("data") != old.get("data"):
        problems.append(Problem("data", "field is immutable", "FieldValueForbidden"))
    if resource.plural == "secrets" and not resource.group and obj.get("type", "Opaque") != old.get("type", "Opaque"):
        problems.append(Problem("type", "field is immutable"))
    return problems


def drop_nulls(value: Any) -> None:
    """Drop fields that are null, in place, as Kubernetes does where a schema does not say that a field may be null."""
    if isinstance(value, dict):
        for name in [name for name, inner in value.items() if inner is None]:
            del value[name]
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            drop_nulls(inner)


def unknown_fields(obj: Obj) -> list[str]:
    """Describe the fields at the top of the object and in its metadata that no object of a kind with a spec has."""
    known = ("apiVersion", "kind", "metadata", "spec", "status")
    return [
        f'unknown field "{path}"' + (f' (did you mean "{hint}"?)' if hint else "")
        for path, hint in (
            *((name, nearest(name, known)) for name in obj if name not in known),
            *((path, nearest(path.removeprefix("metadata."), _METADATA)) for path in unknown_metadata(obj)),
        )
    ]
