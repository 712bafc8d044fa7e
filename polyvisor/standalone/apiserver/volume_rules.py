"""Rules for PersistentVolumes, as ValidatePersistentVolume has them (pkg/apis/core/validation/validation.go).

Two of the many sources are accepted: ``csi``, by which a disk of an endpoint is named, and ``local``. Nothing here
would mount the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import PurePosixPath

from polyvisor.api.metadata import dns_subdomain_error, label_key_error
from polyvisor.api.problems import Problem
from polyvisor.api.quantity import parse_quantity
from polyvisor.api.reading import nested

from .core_fields import fields_of
from .errors import Obj

ACCESS_MODES = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")
VOLUME_MODES = ("Block", "Filesystem")
RECLAIM_POLICIES = ("Delete", "Recycle", "Retain")
SOURCES = ("csi", "local")
OPERATORS = {"In": True, "NotIn": True, "Exists": False, "DoesNotExist": False, "Gt": True, "Lt": True}
"""Operators of a node's selector, and whether they take values."""


def storage_modes(spec: Obj) -> Iterator[Problem]:
    """Judge the access modes and the volume mode of a claim or a volume."""
    modes = spec.get("accessModes") or []
    if not modes:
        message = f"at least one access mode is required: {', '.join(ACCESS_MODES)}"
        yield Problem("spec.accessModes", message, "FieldValueRequired")
    for index, mode in enumerate(modes):
        if mode not in ACCESS_MODES:
            message = f"{mode!r} is not an access mode; supported are {', '.join(ACCESS_MODES)}"
            yield Problem(f"spec.accessModes[{index}]", message, "FieldValueNotSupported")
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        yield Problem(
            "spec.accessModes", "ReadWriteOncePod cannot be combined with another mode", "FieldValueForbidden"
        )
    if spec.get("volumeMode") not in (None, *VOLUME_MODES):
        message = f"{spec['volumeMode']!r} is not a volume mode; supported are Block and Filesystem"
        yield Problem("spec.volumeMode", message, "FieldValueNotSupported")


def check_volume(obj: Obj, old: Obj | None) -> Iterator[Problem]:
    """Judge a volume that is written; ``old`` is None where it is created."""
    spec = obj.get("spec") or {}
    yield from storage_modes(spec)
    yield from _capacity(spec.get("capacity") or {})
    yield from _source(spec)
    policy, name = spec.get("persistentVolumeReclaimPolicy"), spec.get("storageClassName")
    if policy not in (None, *RECLAIM_POLICIES):
        message = f"{policy!r} is not a reclaim policy; supported are {', '.join(RECLAIM_POLICIES)}"
        yield Problem("spec.persistentVolumeReclaimPolicy", message, "FieldValueNotSupported")
    if name and (error := dns_subdomain_error(name)):
        yield Problem("spec.storageClassName", error)
    yield from _affinity(spec)
    yield from _claim(spec.get("claimRef"))
    if old is not None:
        yield from _update(spec, old.get("spec") or {})


def _capacity(capacity: Obj) -> Iterator[Problem]:
    if list(capacity) != ["storage"]:
        message = "the size is required, such as storage: 1Gi, and nothing besides"
        yield Problem("spec.capacity", message, "FieldValueNotSupported" if capacity else "FieldValueRequired")
    elif parse_quantity(capacity["storage"]) <= 0:
        yield Problem("spec.capacity.storage", f"must be greater than zero, not {capacity['storage']}")


def _source(spec: Obj) -> Iterator[Problem]:
    given = sources_of(spec)
    accepted = " or ".join(SOURCES)
    if not given:
        yield Problem("spec", f"where the volume is is required: {accepted}", "FieldValueRequired")
    for name in given[1:]:
        yield Problem(f"spec.{name}", f"a volume has one source, and {given[0]} is given", "FieldValueForbidden")
    for name in given:
        if name not in SOURCES:
            message = f"a standalone installation has no volumes of this type; supported are {accepted}"
            yield Problem(f"spec.{name}", message, "FieldValueNotSupported")
    if (csi := spec.get("csi")) is not None:
        if error := _driver_error(csi.get("driver") or ""):
            yield Problem("spec.csi.driver", error)
        if not csi.get("volumeHandle"):
            yield Problem("spec.csi.volumeHandle", "the driver's name of the volume is required", "FieldValueRequired")
    if (local := spec.get("local")) is not None:
        path = PurePosixPath(local.get("path") or "")
        if not path.is_absolute() or ".." in path.parts:
            yield Problem("spec.local.path", f"an absolute path without '..' is expected, not {str(path)!r}")
        if not nested(spec, "nodeAffinity").get("required"):
            message = "the node that has the volume is required"
            yield Problem("spec.nodeAffinity", message, "FieldValueRequired")


def sources_of(spec: Obj) -> list[str]:
    """Return the names of the sources that a volume's spec gives."""
    known = fields_of("core.PersistentVolumeSource")
    return [name for name in spec if name in known and spec[name] is not None]


def _driver_error(name: str) -> str:
    if not name:
        return "the driver's name is required"
    return dns_subdomain_error(name.lower(), 63) or ""


def _affinity(spec: Obj) -> Iterator[Problem]:
    affinity = spec.get("nodeAffinity")
    if affinity is None:
        return
    path = "spec.nodeAffinity.required"
    required = affinity.get("required")
    if required is None:
        yield Problem(path, "node selector terms are required", "FieldValueRequired")
        return
    if not required.get("nodeSelectorTerms"):
        yield Problem(f"{path}.nodeSelectorTerms", "at least one term is required", "FieldValueRequired")
    for number, term in enumerate(required.get("nodeSelectorTerms") or []):
        for index, one in enumerate(term.get("matchExpressions") or []):
            where = f"{path}.nodeSelectorTerms[{number}].matchExpressions[{index}]"
            if error := label_key_error(one.get("key") or ""):
                yield Problem(f"{where}.key", error)
            operator = one.get("operator")
            if operator not in OPERATORS:
                message = f"{operator!r} is not an operator; supported are {', '.join(OPERATORS)}"
                yield Problem(f"{where}.operator", message, "FieldValueNotSupported")
            elif OPERATORS[operator] != bool(one.get("values")):
                words = "requires values" if OPERATORS[operator] else "takes no values"
                yield Problem(f"{where}.values", f"operator {operator} {words}")


def _claim(reference: Obj | None) -> Iterator[Problem]:
    if reference is None:
        return
    for name in ("namespace", "name"):
        if not reference.get(name):
            yield Problem(f"spec.claimRef.{name}", "is required", "FieldValueRequired")


def _update(new: Obj, old: Obj) -> Iterator[Problem]:
    for name in {*sources_of(new), *sources_of(old)}:
        if new.get(name) != old.get(name):
            message = f"cannot be changed from {json.dumps(old.get(name))}; create another volume"
            yield Problem(f"spec.{name}", message, "FieldValueForbidden")
    for name in ("volumeMode", "nodeAffinity"):
        if old.get(name) is not None and new.get(name) != old[name]:
            message = f"cannot be changed from {json.dumps(old[name])}"
            yield Problem(f"spec.{name}", message, "FieldValueForbidden")
