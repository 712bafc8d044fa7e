"""The messages of Kubernetes' device plugin API, v1beta1, as far as they are used, and their protobuf encoding.

Field numbers are those of the API's published ``.proto``. Only strings, flags and messages occur in it, so this is the
whole of what is needed of the encoding; fields of the API that are not listed here are skipped when read. Why it is
written by hand: docs/decisions/0002-device-plugins.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from grpclib.encoding.base import CodecBase

from polyvisor.kube.wire import WireError as WireError
from polyvisor.kube.wire import bytes_field, number_field
from polyvisor.kube.wire import fields as wire_fields

VERSION = "v1beta1"
HEALTHY = "Healthy"
UNHEALTHY = "Unhealthy"
M = TypeVar("M")


def _text(number: int) -> Any:
    return field(default="", metadata={"number": number})


def _flag(number: int) -> Any:
    return field(default=False, metadata={"number": number})


def _many(number: int, of: type) -> Any:
    return field(default=(), metadata={"number": number, "of": of})


@dataclass(frozen=True, slots=True)
class Empty:
    """Nothing."""


@dataclass(frozen=True, slots=True)
class Options:
    """``DevicePluginOptions``: which further calls a plugin wants; none."""

    pre_start_required: bool = _flag(1)
    preferred_allocation: bool = _flag(2)


@dataclass(frozen=True, slots=True)
class RegisterRequest:
    """What a plugin tells the kubelet: its API version, its socket's name, and what it offers."""

    version: str = _text(1)
    endpoint: str = _text(2)
    resource_name: str = _text(3)


@dataclass(frozen=True, slots=True)
class Device:
    """One thing of a kind that can be given to one container."""

    id: str = _text(1)
    health: str = _text(2)


@dataclass(frozen=True, slots=True)
class Devices:
    """``ListAndWatchResponse``: all there are now."""

    devices: tuple[Device, ...] = _many(1, Device)


@dataclass(frozen=True, slots=True)
class ContainerRequest:
    """``ContainerAllocateRequest``: the devices that one container is to have."""

    ids: tuple[str, ...] = _many(1, str)


@dataclass(frozen=True, slots=True)
class AllocateRequest:
    """The containers of a Pod."""

    containers: tuple[ContainerRequest, ...] = _many(1, ContainerRequest)


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """A device node of the host, where it is to appear, and what may be done with it (``r``, ``w``, ``m``)."""

    container_path: str = _text(1)
    host_path: str = _text(2)
    permissions: str = _text(3)


@dataclass(frozen=True, slots=True)
class ContainerResponse:
    """``ContainerAllocateResponse``: what to put into one container."""

    devices: tuple[DeviceSpec, ...] = _many(3, DeviceSpec)


@dataclass(frozen=True, slots=True)
class AllocateResponse:
    """An answer for each container."""

    containers: tuple[ContainerResponse, ...] = _many(1, ContainerResponse)


class Codec(CodecBase):
    """The encoding, in the shape that grpclib asks for."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        """Return a message's bytes."""
        return encode(message)

    def decode(self, data: bytes, message_type: Any) -> Any:
        """Return the message of a type that bytes stand for."""
        return decode(data, message_type)


def encode(message: Any) -> bytes:
    """Return a message's bytes; what has its default value is left out, except members of a list."""
    out = bytearray()
    for one in fields(message):
        number, value = one.metadata["number"], getattr(message, one.name)
        for each in value if isinstance(value, tuple) else (value,) if value else ():
            if each is True:
                out += number_field(number, 1)
                continue
            data = each.encode() if isinstance(each, str) else encode(each)
            out += bytes_field(number, data)
    return bytes(out)


def decode(data: bytes, kind: type[M]) -> M:
    """Return the message of type ``kind`` that ``data`` stands for."""
    known = {one.metadata["number"]: one for one in fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for number, value in wire_fields(data):
        one = known.get(number)
        if one is None:
            continue
        of = one.metadata.get("of", bool if one.default is False else str)
        found: Any
        if of is bool and isinstance(value, int):
            found = bool(value)
        elif of is not bool and isinstance(value, bytes):
            found = value.decode() if of is str else decode(value, of)
        else:
            raise WireError(f"{kind.__name__}.{one.name} is of another type")
        values[one.name] = (*values.get(one.name, ()), found) if "of" in one.metadata else found
    return kind(**values)
