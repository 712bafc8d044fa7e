"""The encoding against bytes that Google's protobuf made of the same messages."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.agent.node.devices.messages import (
    AllocateRequest,
    AllocateResponse,
    ContainerRequest,
    ContainerResponse,
    Device,
    Devices,
    DeviceSpec,
    Options,
    RegisterRequest,
    WireError,
    decode,
    encode,
)

REGISTER = (
    "0a07763162657461311212706f6c797669736f722d6b766d2e736f636b1a17646576696365732e6b756265766972742e696f2f6b766d"
)
KNOWN: list[tuple[Any, str]] = [
    (RegisterRequest("v1beta1", "polyvisor-kvm.sock", "devices.kubevirt.io/kvm"), REGISTER),
    (
        Devices((Device("kvm0", "Healthy"), Device("kvm1", "Unhealthy"))),
        "0a0f0a046b766d3012074865616c7468790a110a046b766d311209556e6865616c746879",
    ),
    (
        AllocateRequest((ContainerRequest(("kvm7", "kvm8")), ContainerRequest(("x" * 200,)))),
        "0a0c0a046b766d370a046b766d380acb010ac801" + "78" * 200,
    ),
    (
        AllocateResponse((ContainerResponse((DeviceSpec("/dev/kvm", "/dev/kvm", "rw"),)), ContainerResponse())),
        "0a1a1a180a082f6465762f6b766d12082f6465762f6b766d1a0272770a00",
    ),
    (Options(pre_start_required=True), "0801"),
    (Options(), ""),
]


@pytest.mark.parametrize(("message", "text"), KNOWN)
def test_messages_are_as_protobuf_has_them(message: Any, text: str) -> None:
    assert encode(message).hex() == text
    assert decode(bytes.fromhex(text), type(message)) == message


def test_fields_that_are_not_known_are_skipped() -> None:
    more = bytes.fromhex(REGISTER + "2200" + "28ac02" + "3101020304050607084d01020304")
    assert decode(more, RegisterRequest) == KNOWN[0][0]


@pytest.mark.parametrize("text", ["0a", "0a05", "0a0561", "80", "0b", "0801", "ff" * 11])
def test_what_is_no_message_is_refused(text: str) -> None:
    with pytest.raises(WireError):
        decode(bytes.fromhex(text), RegisterRequest)
