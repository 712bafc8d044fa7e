"""Rules for volumes made of texts in the API: ConfigMaps, Secrets, the machine's own metadata, answer files."""

from __future__ import annotations

import re

from polyvisor.admission.paths import relative_path_error
from polyvisor.admission.values import Findings, items, mapping, text
from polyvisor.api import Obj
from polyvisor.api.metadata import dns_subdomain_error

MAX_LABEL = 32
_LABEL = re.compile(r"[A-Za-z0-9_.+-]+")
_FIELDS = re.compile(r"metadata\.(name|namespace|uid|labels|annotations|(labels|annotations)\['[^']+'\])")
FIELDS = "metadata.name, namespace, uid, labels, annotations, labels['KEY'] and annotations['KEY']"


def validate(kind: str, source: Obj, path: str, found: Findings) -> None:
    """Check a volume of one of these kinds."""
    label = text(source.get("volumeLabel"))
    if label and (len(label) > MAX_LABEL or not _LABEL.fullmatch(label)):
        message = f"found {label[:80]!r}; at most {MAX_LABEL} letters, digits and '_.+-' are accepted"
        found.add(f"{path}.volumeLabel", message)
    match kind:
        case "configMap":
            _reference(source, "name", path, "ConfigMap", found)
        case "secret":
            _reference(source, "secretName", path, "Secret", found)
        case "sysprep":
            _sysprep(source, path, found)
        case "downwardAPI":
            _downward(source, path, found)


def _reference(source: Obj, key: str, path: str, kind: str, found: Findings) -> None:
    name = source.get(key)
    if not name:
        found.required(f"{path}.{key}", f"required; the name of a {kind}")
    elif isinstance(name, str) and (error := dns_subdomain_error(name)):
        found.add(f"{path}.{key}", error)


def _sysprep(source: Obj, path: str, found: Findings) -> None:
    given = [key for key in ("configMap", "secret") if source.get(key) is not None]
    if not given:
        found.required(path, "one of configMap, secret is wanted")
    elif len(given) > 1:
        found.add(path, "configMap and secret exclude each other; give one")
    for key in given:
        _reference(mapping(source, key), "name", f"{path}.{key}", {"secret": "Secret"}.get(key, "ConfigMap"), found)


def _downward(source: Obj, path: str, found: Findings) -> None:
    fields = list(items(source.get("fields"), f"{path}.fields"))
    if not fields:
        found.required(f"{path}.fields", "required; at least one file is wanted")
    seen: set[str] = set()
    for where, item in fields:
        name = text(item.get("path"))
        if error := relative_path_error(name):
            found.add(f"{where}.path", error)
        elif name in seen:
            found.duplicate(f"{where}.path", f"{name!r} is a file of this volume already")
        seen.add(name)
        if item.get("resourceFieldRef") is not None:
            message = "what resources the Pod has is not told to guests; use fieldRef"
            found.add(f"{where}.resourceFieldRef", message, "FieldValueNotSupported")
        elif item.get("fieldRef") is None:
            found.required(f"{where}.fieldRef", "required; the field to tell")
        else:
            field = text(mapping(item, "fieldRef").get("fieldPath"))
            if not _FIELDS.fullmatch(field):
                message = f"found {field[:80]!r}, accepted: {FIELDS}"
                found.add(f"{where}.fieldRef.fieldPath", message, "FieldValueNotSupported")
