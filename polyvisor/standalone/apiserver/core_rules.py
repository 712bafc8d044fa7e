"""Rules for the values of Kubernetes' own kinds, as its API server has them (pkg/apis/core/validation/validation.go).

Only the kinds that clients of virtual machines write are judged. A rule speaks of fields whose types are right already
(:mod:`.core_fields`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

from polyvisor.api.metadata import dns_label_error, dns_subdomain_error, label_key_error
from polyvisor.api.problems import Problem
from polyvisor.api.quantity import parse_quantity
from polyvisor.api.reading import nested
from polyvisor.api.resources import CONFIGMAPS, PODS, PVCS, SECRETS, Resource

from .errors import Obj
from .kinds import PVS, SERVICES
from .volume_rules import check_volume, storage_modes

MAX_DATA = 1024 * 1024
"""Bytes in all values of a ConfigMap or Secret."""
STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_WANTED_KEYS = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}
"""What a Secret of a type must have (pkg/apis/core/types.go)."""


def check(resource: Resource, obj: Obj, old: Obj | None) -> list[Problem]:
    """Judge an object that is written; ``old`` is None where it is created."""
    if resource.custom:
        return []
    rules = _RULES.get(resource)
    return [*_finalizers(obj, old), *(rules(obj, old) if rules else ())]


def _finalizers(obj: Obj, old: Obj | None) -> Iterator[Problem]:
    present = (old or {}).get("metadata", {}).get("finalizers") or []
    for index, name in enumerate(obj["metadata"].get("finalizers") or []):
        if not isinstance(name, str) or name in present:
            continue
        if error := label_key_error(name):
            yield Problem(f"metadata.finalizers[{index}]", error)
        elif "/" not in name and name not in STANDARD_FINALIZERS:
            message = f"{name!r} must begin with a domain, such as example.com/{name}"
            yield Problem(f"metadata.finalizers[{index}]", message)


def _claim(obj: Obj, old: Obj | None) -> Iterator[Problem]:
    spec = obj.get("spec") or {}
    yield from storage_modes(spec)
    wanted = nested(spec, "resources", "requests").get("storage")
    path = "spec.resources.requests.storage"
    if wanted is None:
        yield Problem(path, "the size of the volume is required, such as 1Gi", "FieldValueRequired")
    elif parse_quantity(wanted) <= 0:
        yield Problem(path, f"must be greater than zero, not {wanted}")
    kind = spec.get("storageClassName")
    if kind and (error := dns_subdomain_error(kind)):
        yield Problem("spec.storageClassName", error)
    if old is not None:
        yield from _claim_update(obj, old)


def _claim_update(obj: Obj, old: Obj) -> Iterator[Problem]:
    new_spec, old_spec = obj.get("spec") or {}, old.get("spec") or {}
    for name in ("accessModes", "selector", "storageClassName", "volumeMode", "dataSource", "dataSourceRef"):
        if old_spec.get(name) is not None and new_spec.get(name) != old_spec[name]:
            message = f"cannot be changed from {json.dumps(old_spec[name])}; only the size can, upwards"
            yield Problem(f"spec.{name}", message, "FieldValueForbidden")
    new_size, old_size = (nested(spec, "resources", "requests").get("storage") for spec in (new_spec, old_spec))
    if new_size is not None and old_size is not None and parse_quantity(new_size) < parse_quantity(old_size):
        message = f"cannot be less than the present {old_size}, not {new_size}"
        yield Problem("spec.resources.requests.storage", message, "FieldValueForbidden")


def _data(obj: Obj, _: Obj | None) -> Iterator[Problem]:
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    size = 0
    for field, entries in (("data", data), ("binaryData", binary)):
        for key, value in entries.items():
            size += len(value.encode()) if isinstance(value, str) else 0
            if not _KEY.fullmatch(key) or key in (".", "..") or key.startswith(".."):
                message = "a key has 1 to 253 letters, digits, '-', '_' and '.', and does not begin with '..'"
                yield Problem(f"{field}[{key}]", message)
    for key in data.keys() & binary.keys():
        yield Problem(f"data[{key}]", "the key is in binaryData too", "FieldValueDuplicate")
    if size > MAX_DATA:
        yield Problem("", f"has {size} bytes of data; at most {MAX_DATA} are accepted")


def _secret(obj: Obj, old: Obj | None) -> Iterator[Problem]:
    yield from _data(obj, old)
    data = obj.get("data") or {}
    kind = obj.get("type", "Opaque")
    for key in _WANTED_KEYS.get(kind, ()):
        if key not in data:
            yield Problem(f"data[{key}]", f"a Secret of type {kind} must have it", "FieldValueRequired")
    if kind == "kubernetes.io/basic-auth" and not data.keys() & {"username", "password"}:
        yield Problem("data[username]", f"a Secret of type {kind} must have username or password", "FieldValueRequired")


def _pod(obj: Obj, old: Obj | None) -> Iterator[Problem]:
    if old is not None:
        return
    spec = obj.get("spec") or {}
    if not spec.get("containers"):
        yield Problem("spec.containers", "at least one container is required", "FieldValueRequired")
    seen: set[str] = set()
    for field in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(field) or []):
            name, path = container.get("name") or "", f"spec.{field}[{index}]"
            if error := dns_label_error(name):
                yield Problem(f"{path}.name", error)
            elif name in seen:
                yield Problem(f"{path}.name", f"{name!r} is the name of another container", "FieldValueDuplicate")
            seen.add(name)
            if not container.get("image"):
                yield Problem(f"{path}.image", "an image is required", "FieldValueRequired")
    if spec.get("restartPolicy") not in (None, "Always", "OnFailure", "Never"):
        message = f"{spec['restartPolicy']!r} is not supported; supported are Always, Never, OnFailure"
        yield Problem("spec.restartPolicy", message, "FieldValueNotSupported")


def _service(obj: Obj, _: Obj | None) -> Iterator[Problem]:
    spec = obj.get("spec") or {}
    kinds = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
    if spec.get("type") not in kinds:
        message = f"{spec.get('type')!r} is not supported; supported are {', '.join(kinds)}"
        yield Problem("spec.type", message, "FieldValueNotSupported")
    ports = spec.get("ports") or []
    if not ports and spec.get("type") in ("LoadBalancer", "NodePort"):
        yield Problem("spec.ports", "at least one port is required", "FieldValueRequired")
    for index, port in enumerate(ports):
        number = port.get("port")
        if not isinstance(number, int) or not 0 < number < 65536:
            yield Problem(f"spec.ports[{index}].port", f"must be between 1 and 65535, not {number}")
        if len(ports) > 1 and not port.get("name"):
            message = "a name is required where there are several ports"
            yield Problem(f"spec.ports[{index}].name", message, "FieldValueRequired")


_RULES: dict[Resource, Callable[[Obj, Obj | None], Iterator[Problem]]] = {
    PVCS: _claim,
    PVS: check_volume,
    CONFIGMAPS: _data,
    SECRETS: _secret,
    PODS: _pod,
    SERVICES: _service,
}
