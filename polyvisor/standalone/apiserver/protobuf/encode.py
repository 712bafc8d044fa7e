"""From an object, as JSON has it, to Kubernetes' protobuf."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from polyvisor.kube import wire

from ..errors import Obj
from .messages import Field, messages


def message(obj: Obj, name: str) -> bytes:
    """Return the message of an object. Fields that the table does not know are left out, as Kubernetes does."""
    out = bytearray()
    for field in messages()[name].values():
        if not field.name:
            if inner := message(obj, field.type):
                out += wire.bytes_field(field.number, inner)
            continue
        value = obj.get(field.name)
        if value is None:
            continue
        if field.form == "map":
            for key, item in value.items():
                pair = wire.bytes_field(1, key.encode()) + _field(2, field, item)
                out += wire.bytes_field(field.number, pair)
        elif field.form == "repeated":
            for item in value:
                out += _field(field.number, field, item)
        else:
            out += _field(field.number, field, value)
    return bytes(out)


def _field(number: int, field: Field, value: Any) -> bytes:
    if field.type in ("int", "bool"):
        return wire.number_field(number, int(value))
    write = _WRITE.get(field.type)
    return wire.bytes_field(number, write(value) if write else message(value, field.type))


def _time(text: str) -> bytes:
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    out = wire.number_field(1, int(moment.timestamp()))
    return out + wire.number_field(2, moment.microsecond * 1000) if moment.microsecond else out


def _int_or_string(value: int | str) -> bytes:
    if isinstance(value, int):
        return wire.number_field(1, 0) + wire.number_field(2, value)
    return wire.number_field(1, 1) + wire.bytes_field(3, value.encode())


_WRITE: dict[str, Callable[[Any], bytes]] = {
    "string": str.encode,
    "bytes": base64.b64decode,
    "time": _time,
    "microtime": _time,
    "quantity": lambda value: wire.bytes_field(1, str(value).encode()),
    "int-or-string": _int_or_string,
    "raw": lambda value: wire.bytes_field(1, json.dumps(value, separators=(",", ":")).encode()),
}
