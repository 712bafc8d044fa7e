"""The fields of Kubernetes' own kinds, at every depth: what does not exist is dropped and reported, types are checked.

The table of protobuf messages has every field of these kinds with its type, so it serves for JSON too. Admission checks
Polyvisor's own kinds.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from polyvisor.api.problems import nearest
from polyvisor.api.quantity import QuantityError, parse_quantity
from polyvisor.api.resources import Resource

from .errors import Obj
from .protobuf.messages import Field, message_of, messages

_ALWAYS = ("apiVersion", "kind")
MAX_REPORTED = 50
"""How many unknown fields and mistakes are reported of one object."""


@dataclass(slots=True)
class FieldReport:
    """What was found in an object: unknown fields, each a warning, and values of a wrong type."""

    unknown: list[str] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)


def prune(resource: Resource, obj: Obj) -> FieldReport | None:
    """Drop the fields that no object of this kind has, in place; None where the kind is not Kubernetes' own."""
    message = message_of(resource.api_version, resource.kind)
    if message is None:
        return None
    report = FieldReport()
    _object(obj, message, "", report)
    del report.unknown[MAX_REPORTED:], report.mistakes[MAX_REPORTED:]
    return report


@cache
def fields_of(message: str) -> Mapping[str, Field]:
    """Return a message's fields by their names in JSON, those of inlined messages among them."""
    found: dict[str, Field] = {}
    for one in messages()[message].values():
        found |= {one.name: one} if one.name else fields_of(one.type)
    return found


_SCHEMAS: Mapping[str, Obj] = {
    "string": {"type": "string"},
    "bool": {"type": "boolean"},
    "int": {"type": "integer"},
    "bytes": {"type": "string", "format": "byte"},
    "time": {"type": "string", "format": "date-time"},
    "microtime": {"type": "string", "format": "date-time"},
    "quantity": {"type": "string"},
    "int-or-string": {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True},
    "raw": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
}


@cache
def schema_of(message: str) -> Obj:
    """Return a message's OpenAPI schema, everything written out. Do not change the result."""
    return {"type": "object", "properties": {name: _schema(one) for name, one in fields_of(message).items()}}


def _schema(one: Field) -> Obj:
    inner = _SCHEMAS.get(one.type) or schema_of(one.type)
    if one.form == "repeated":
        return {"type": "array", "items": inner}
    return {"type": "object", "additionalProperties": inner} if one.form == "map" else inner


def _object(obj: Obj, message: str, path: str, report: FieldReport) -> None:
    known = fields_of(message)
    for name in list(obj):
        if not path and name in _ALWAYS:
            continue
        at = f"{path}.{name}" if path else name
        one = known.get(name)
        if one is None:
            del obj[name]
            hint = nearest(name, known)
            report.unknown.append(f'unknown field "{at}"' + (f' (did you mean "{hint}"?)' if hint else ""))
        elif obj[name] is not None:
            _value(obj[name], one, at, report)


def _value(value: Any, one: Field, at: str, report: FieldReport) -> None:
    if one.form == "repeated":
        if _is(value, list, "a list", at, report):
            for index, item in enumerate(value):
                _single(item, one, f"{at}[{index}]", report)
    elif one.form == "map":
        if _is(value, dict, "an object", at, report):
            for key, item in value.items():
                _single(item, one, f"{at}.{key}", report)
    else:
        _single(value, one, at, report)


def _single(value: Any, one: Field, at: str, report: FieldReport) -> None:
    kind = one.type
    if kind == "raw":
        return
    if kind == "string":
        _is(value, str, "a string", at, report)
    elif kind == "bool":
        _is(value, bool, "true or false", at, report)
    elif kind == "int":
        if isinstance(value, bool) or not isinstance(value, int):
            report.mistakes.append(f"{at}: must be a whole number, not {_shown(value)}")
    elif kind == "int-or-string":
        if isinstance(value, bool) or not isinstance(value, int | str):
            report.mistakes.append(f"{at}: must be a whole number or a string, not {_shown(value)}")
    elif kind == "quantity":
        _quantity(value, at, report)
    elif kind == "bytes":
        _bytes(value, at, report)
    elif kind in ("time", "microtime"):
        _time(value, at, report)
    elif _is(value, dict, "an object", at, report):
        _object(value, kind, at, report)


def _is(value: Any, kind: type, words: str, at: str, report: FieldReport) -> bool:
    if isinstance(value, kind):
        return True
    report.mistakes.append(f"{at}: must be {words}, not {_shown(value)}")
    return False


def _quantity(value: Any, at: str, report: FieldReport) -> None:
    try:
        if isinstance(value, bool):
            raise QuantityError
        parse_quantity(value)
    except QuantityError:
        report.mistakes.append(f"{at}: must be a quantity such as 500m, 2 or 1Gi, not {_shown(value)}")


def _bytes(value: Any, at: str, report: FieldReport) -> None:
    if not _is(value, str, "base64 text", at, report):
        return
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        report.mistakes.append(f"{at}: must be base64; plain text of a Secret goes into stringData")


def _time(value: Any, at: str, report: FieldReport) -> None:
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError):
        report.mistakes.append(f"{at}: must be a time such as 2026-01-31T12:00:00Z, not {_shown(value)}")


def _shown(value: Any) -> str:
    names = {dict: "an object", list: "a list", type(None): "null"}
    return names.get(type(value)) or repr(value)[:80]
