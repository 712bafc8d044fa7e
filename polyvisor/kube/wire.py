"""The wire format of protobuf: tags, variable-length numbers, and length-delimited bytes.

Source: https://protobuf.dev/programming-guides/encoding/. The messages of Kubernetes' API and of its device plugins use
wire types 0 and 2 alone; fields with the fixed-size numbers of types 1 and 5 are unknown to both, so they are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_MAX_SHIFT = 63


class WireError(ValueError):
    """The bytes are not a message of the type that is wanted."""


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield each field's number and its number or bytes; WireError where the message is broken."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if wire == BYTES:
            size, at = _varint(data, at)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise WireError(f"wire type {wire} is not supported")
        if at + size > len(data):
            raise WireError("the message is cut short")
        if wire == BYTES:
            yield tag >> 3, data[at : at + size]
        at += size


def numbers(data: bytes) -> Iterator[int]:
    """Yield the numbers of a packed list."""
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def signed(value: int) -> int:
    """Return what a 64-bit variable-length number means in int32 and int64 fields."""
    return value - (1 << 64) if value >> 63 else value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data):
            raise WireError("the message is cut short")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & ((1 << 64) - 1), at
        shift += 7
        if shift > _MAX_SHIFT:
            raise WireError("a number is too long")


def varint(value: int) -> bytes:
    """Write a number; a negative one as 64 bits."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number_field(number: int, value: int) -> bytes:
    """Write a field that holds a number."""
    return varint(number << 3 | VARINT) + varint(value)


def bytes_field(number: int, value: bytes) -> bytes:
    """Write a field that holds bytes, text or a message."""
    return varint(number << 3 | BYTES) + varint(len(value)) + value
