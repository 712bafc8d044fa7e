"""Kubernetes' protobuf, in which Go clients send and ask for the built-in kinds.

A body or an answer is the mark ``k8s\\0`` and a message ``runtime.Unknown``: the type, and the object's own message.
Custom kinds have no protobuf, here as in Kubernetes; nor do tables. A field that the table of messages does not have is
an error in a body, so that nothing is lost without a word.
"""

from __future__ import annotations

import struct
from typing import Any

from polyvisor.kube import wire

from ..errors import Obj, StatusError, bad_request
from . import decode as decoding
from . import encode as encoding
from .messages import message_of

MAGIC = b"k8s\x00"
MEDIA = "application/vnd.kubernetes.protobuf"
WATCH_MEDIA = f"{MEDIA};stream=watch"


def decode(body: bytes) -> Obj:
    """Return the object in a protobuf body; 415 for a kind that has no protobuf here, 400 for broken bytes."""
    if not body.startswith(MAGIC):
        raise bad_request("the body is not Kubernetes protobuf: it must begin with k8s and a zero byte")
    try:
        envelope: dict[int, Any] = dict(wire.fields(body[len(MAGIC) :]))
        meta: dict[int, Any] = dict(wire.fields(envelope.get(1, b"")))
        api_version, kind = (bytes(meta.get(number, b"")).decode() for number in (1, 2))
        message = message_of(api_version, kind)
        if message is None:
            what = f"{api_version} {kind}".strip() or "an object without a kind"
            raise StatusError(415, "UnsupportedMediaType", f"{what} has no protobuf form here; send JSON or YAML")
        return {"apiVersion": api_version, "kind": kind, **decoding.message(envelope.get(2, b""), message)}
    except (TypeError, ValueError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise bad_request(f"the body is not valid protobuf: {error}") from None


def encodable(api_version: str, kind: str) -> bool:
    """Tell whether objects of a kind can be answered as protobuf."""
    return message_of(api_version, kind) is not None


def encode(obj: Obj) -> bytes:
    """Return an object, or a list of objects, of an encodable kind as a protobuf answer."""
    api_version, kind = obj["apiVersion"], obj["kind"]
    message = message_of(api_version, kind)
    if message is not None:
        raw = encoding.message(obj, message)
    else:
        item = message_of(api_version, kind.removesuffix("List"))
        if item is None:
            raise ValueError(f"{kind} has no protobuf form")
        raw = wire.bytes_field(1, encoding.message(obj["metadata"], "meta.ListMeta"))
        raw += b"".join(wire.bytes_field(2, encoding.message(one, item)) for one in obj["items"])
    meta = wire.bytes_field(1, api_version.encode()) + wire.bytes_field(2, kind.encode())
    return MAGIC + wire.bytes_field(1, meta) + wire.bytes_field(2, raw)


def watch_frame(event: Obj) -> bytes:
    """Return an event of a watch as one frame: four bytes of length, then ``WatchEvent`` (type, object)."""
    raw = wire.bytes_field(1, encode(event["object"]))
    content = wire.bytes_field(1, event["type"].encode()) + wire.bytes_field(2, raw)
    return struct.pack(">I", len(content)) + content
