"""From Kubernetes' protobuf to the object that JSON would have given."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from polyvisor.kube import wire

from ..errors import Obj
from .messages import Field, Message, messages

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def message(data: bytes, name: str) -> Obj:
    """Return the object in a message; ValueError where the bytes are not such a message.

    No message of the table holds itself, so the table bounds the depth.
    """
    table: Message = messages()[name]
    found: Obj = {}
    for number, value in wire.fields(data):
        field = table.get(number)
        if field is None:
            raise ValueError(f"{name} has no field number {number}")
        _put(found, field, value)
    return found


def _put(found: Obj, field: Field, value: int | bytes) -> None:
    if field.form == "map":
        key, inner = _entry(field, _bytes(field, value))
        found.setdefault(field.name, {})[key] = inner
    elif field.form == "repeated":
        items = found.setdefault(field.name, [])
        if field.type == "int" and isinstance(value, bytes):
            items += map(wire.signed, wire.numbers(value))
        else:
            items.append(_value(field, value))
    elif not field.name:
        found.update(message(_bytes(field, value), field.type))
    else:
        decoded = _value(field, value)
        if decoded is not None and (field.zero or decoded not in ("", 0, False)):
            found[field.name] = decoded


def _entry(field: Field, data: bytes) -> tuple[str, Any]:
    pair: dict[int, int | bytes] = dict(wire.fields(data))
    value = pair.get(2, b"")
    return _bytes(field, pair.get(1, b"")).decode(), _value(field, value)


def _bytes(field: Field, value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError(f"{field.name or field.type} must not be a number")
    return value


def _value(field: Field, value: int | bytes) -> Any:
    if field.type in ("int", "bool"):
        if not isinstance(value, int):
            raise ValueError(f"{field.name} must be a number")
        return bool(value) if field.type == "bool" else wire.signed(value)
    data = _bytes(field, value)
    if read := _READ.get(field.type):
        return read(data)
    return message(data, field.type)


def _time(data: bytes) -> str | None:
    """Return a message of seconds and nanoseconds as text; None for the zero time."""
    return _text_of_time(data, "seconds")


def _micro_time(data: bytes) -> str | None:
    return _text_of_time(data, "microseconds")


def _text_of_time(data: bytes, precision: str) -> str | None:
    pair: dict[int, Any] = dict(wire.fields(data))
    if 1 not in pair:
        return None
    try:
        moment = _EPOCH + timedelta(seconds=wire.signed(pair[1]), microseconds=pair.get(2, 0) // 1000)
    except (OverflowError, TypeError):
        raise ValueError("a time is out of range") from None
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")


def _quantity(data: bytes) -> str:
    return bytes(dict(wire.fields(data)).get(1, b"")).decode()


def _int_or_string(data: bytes) -> int | str:
    pair: dict[int, Any] = dict(wire.fields(data))
    if pair.get(1):
        return bytes(pair.get(3, b"")).decode()
    number: int = wire.signed(pair.get(2, 0))
    return number


def _raw(data: bytes) -> Any:
    """Return the JSON that a message carries as bytes; None where it has none."""
    text = bytes(dict(wire.fields(data)).get(1, b""))
    return json.loads(text) if text else None


_READ: dict[str, Callable[[bytes], Any]] = {
    "string": bytes.decode,
    "bytes": lambda data: base64.b64encode(data).decode(),
    "time": _time,
    "microtime": _micro_time,
    "quantity": _quantity,
    "int-or-string": _int_or_string,
    "raw": _raw,
}
