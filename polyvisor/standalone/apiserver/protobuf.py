"""Reading Kubernetes' protobuf, for the few kinds that ``kubectl create`` insists on sending in it.

Only bodies are read; answers are JSON. The tables are the field numbers of Kubernetes' published ``.proto`` files. A
field that is not in them is an error, so that nothing is lost without a word.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from .errors import Obj, StatusError, bad_request

MAGIC = b"k8s\x00"
Type = Literal["string", "strings", "int", "bool", "map", "bytesmap", "bytes", "skip"]


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a message: its name in JSON, and its type or the table of its message."""

    name: str
    type: Type | dict[int, Field]
    repeated: bool = False


def _f(name: str, kind: Type | dict[int, Field] = "string", repeated: bool = False) -> Field:
    return Field(name, kind, repeated)


_OWNER = {
    5: _f("apiVersion"),
    1: _f("kind"),
    3: _f("name"),
    4: _f("uid"),
    6: _f("controller", "bool"),
    7: _f("blockOwnerDeletion", "bool"),
}
_META = _f(
    "metadata",
    {
        1: _f("name"),
        2: _f("generateName"),
        3: _f("namespace"),
        4: _f("selfLink"),
        5: _f("uid"),
        6: _f("resourceVersion"),
        7: _f("generation", "skip"),
        8: _f("creationTimestamp", "skip"),
        9: _f("deletionTimestamp", "skip"),
        10: _f("deletionGracePeriodSeconds", "skip"),
        11: _f("labels", "map"),
        12: _f("annotations", "map"),
        13: _f("ownerReferences", _OWNER, repeated=True),
        14: _f("finalizers", "strings"),
        17: _f("managedFields", "skip"),
    },
)
_ATTRIBUTES = {
    number: _f(name)
    for number, name in enumerate(
        ("namespace", "verb", "group", "version", "resource", "subresource", "name"),
        1,
    )
} | {8: _f("fieldSelector", "skip"), 9: _f("labelSelector", "skip")}
_KINDS: dict[str, dict[int, Field]] = {
    "ConfigMap": {1: _META, 2: _f("data", "map"), 3: _f("binaryData", "bytesmap"), 4: _f("immutable", "bool")},
    "Secret": {
        1: _META,
        2: _f("data", "bytesmap"),
        3: _f("type"),
        4: _f("stringData", "map"),
        5: _f("immutable", "bool"),
    },
    "Namespace": {1: _META, 2: _f("spec", {1: _f("finalizers", "strings")}), 3: _f("status", "skip")},
    "DeleteOptions": {
        1: _f("gracePeriodSeconds", "int"),
        2: _f("preconditions", {1: _f("uid"), 2: _f("resourceVersion")}),
        3: _f("orphanDependents", "bool"),
        4: _f("propagationPolicy"),
        5: _f("dryRun", "strings"),
    },
    "SelfSubjectAccessReview": {
        1: _META,
        2: _f(
            "spec",
            {
                1: _f("resourceAttributes", _ATTRIBUTES),
                2: _f("nonResourceAttributes", {1: _f("path"), 2: _f("verb")}),
            },
        ),
        3: _f("status", "skip"),
    },
    "SelfSubjectRulesReview": {1: _META, 2: _f("spec", {1: _f("namespace")}), 3: _f("status", "skip")},
}
_UNKNOWN = {
    1: _f("typeMeta", {1: _f("apiVersion"), 2: _f("kind")}),
    2: _f("raw", "bytes"),
    3: _f("contentEncoding"),
    4: _f("contentType"),
}


def decode(body: bytes) -> Obj:
    """Return the object in a protobuf body; 415 for a kind that is not read here."""
    if not body.startswith(MAGIC):
        raise bad_request("the body is not Kubernetes protobuf: it does not begin with its mark")
    try:
        envelope = _message(body[len(MAGIC) :], _UNKNOWN)
        meta = envelope.get("typeMeta", {})
        table = _KINDS.get(meta.get("kind", ""))
        if table is None:
            message = f"{meta.get('kind') or 'this object'} is not read as protobuf here: send JSON or YAML"
            raise StatusError(415, "UnsupportedMediaType", message)
        return {**meta, **_message(envelope.get("raw", b""), table)}
    except (IndexError, UnicodeDecodeError, ValueError) as error:
        raise bad_request(f"the body is not valid protobuf: {error}") from None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if wire != 2:
            raise ValueError(f"wire type {wire} is not expected")
        size, at = _varint(data, at)
        if at + size > len(data):
            raise ValueError("it ends too early")
        yield tag >> 3, data[at : at + size]
        at += size


def _message(data: bytes, table: dict[int, Field]) -> Obj:
    found: Obj = {}
    for number, value in _fields(data):
        field = table.get(number)
        if field is None:
            raise ValueError(f"field number {number} is not known")
        _put(found, field, value)
    return found


def _put(found: Obj, field: Field, value: int | bytes) -> None:
    kind = field.type
    if kind == "skip":
        return
    if kind in ("int", "bool"):
        if not isinstance(value, int):
            raise ValueError(f"{field.name} must be a number")
        found[field.name] = bool(value) if kind == "bool" else value - (1 << 64) if value >> 63 else value
        return
    if not isinstance(value, bytes):
        raise ValueError(f"{field.name} must not be a number")
    if isinstance(kind, dict):
        inner = _message(value, kind)
        if field.repeated:
            found.setdefault(field.name, []).append(inner)
        else:
            found[field.name] = inner
    elif kind == "bytes":
        found[field.name] = value
    elif kind == "strings":
        found.setdefault(field.name, []).append(value.decode())
    elif kind in ("map", "bytesmap"):
        key, item = _entry(value)
        found.setdefault(field.name, {})[key] = base64.b64encode(item).decode() if kind == "bytesmap" else item.decode()
    elif value:
        found[field.name] = value.decode()


def _entry(data: bytes) -> tuple[str, bytes]:
    pair: dict[int, Any] = dict(_fields(data))
    return bytes(pair.get(1, b"")).decode(), bytes(pair.get(2, b""))
