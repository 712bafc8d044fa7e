"""USB devices of a client in a guest: usbredir's protocol with a real QEMU, by the API and by the command line."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from polyvisor.cli.client import Client
from polyvisor.cli.streams import options
from polyvisor.cli.websocket import Websocket
from tests.drivers.feature_machines import Guest
from tests.drivers.feature_run import start
from tests.folders import short_folder

from .standalone import BIN, KERNEL, ROOT, Standalone, standalone
from .test_networks import BASE

pytestmark = [pytest.mark.e2e, pytest.mark.proof]
SLOTS = 4
HELLO, CONNECT, INTERFACES, ENDPOINTS, CONTROL = 0, 1, 4, 5, 100
NO_ENDPOINT = 255
CAPABILITIES = 1 << 4 | 1 << 5 | 1 << 6
"""Sizes of endpoints' packets, 64 bits of ids, 32 bits of bulk lengths."""
GET_DESCRIPTOR = 6
PROGRAM = """\
#!/bin/sh
# plays usbredirect: connects, and keeps what the other end says first
[ "$1 $2 $3" = "--device 046d:c31c --to" ] || exit 2
exec timeout 20 /usr/bin/python3 - "$4" "$0.heard" <<'END'
import socket, sys
host, _, port = sys.argv[1].rpartition(":")
with socket.create_connection((host, int(port))) as peer, open(sys.argv[2], "wb") as file:
    file.write(peer.recv(12 + 64, socket.MSG_WAITALL))
END
"""


def machine(name: str, devices: dict[str, Any]) -> dict[str, Any]:
    boot = {"kernelBoot": {"kernelArgs": "console=ttyS0 quiet", "container": KERNEL}}
    domain = {"memory": {"guest": "96Mi"}, "firmware": boot, "devices": devices}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": name},
        "spec": {"hypervisor": {"driver": "qemu"}, "domain": domain},
    }


@pytest.fixture(scope="module")
def home() -> Iterator[Standalone]:
    with standalone() as home:
        home.run("up")
        try:
            home.run_machines(machine("slots", {"clientPassthrough": {}}), machine("none", {}))
            yield home
        finally:
            home.run("down")


class Redirection:
    """One end of usbredir's protocol, with the least of it that QEMU's xHCI controller takes."""

    def __init__(self, receive: Callable[[], bytes], send: Callable[[bytes], Any]) -> None:
        self._receive, self._send = receive, send
        self._heard = b""
        self._form = "<III"

    def _read(self, size: int) -> bytes:
        while len(self._heard) < size:
            data = self._receive()
            assert data
            self._heard += data
        found, self._heard = self._heard[:size], self._heard[size:]
        return found

    def packet(self) -> tuple[int, bytes]:
        kind, length, _ = struct.unpack(self._form, self._read(struct.calcsize(self._form)))
        return kind, self._read(length)

    def send(self, kind: int, body: bytes) -> None:
        self._send(struct.pack(self._form, kind, len(body), 0) + body)

    def greeted(self) -> bytes:
        """Return the version that the other end greets with."""
        kind, body = self.packet()
        assert kind == HELLO
        return body[:64].rstrip(b"\0")

    def greet(self) -> None:
        """Greet in turn; from then on packets have the form that both can."""
        self.send(HELLO, b"a test".ljust(64, b"\0") + struct.pack("<I", CAPABILITIES))
        self._form = "<IIQ"


def greeting(websocket: Websocket) -> bytes:
    return Redirection(lambda: websocket.recv(timeout=60), websocket.send).greeted()


def opened(client: Client, name: str) -> Websocket:
    url, arguments = options(client, f"{BASE}/{name}/usbredir", 20)
    return Websocket(url, **arguments)


def test_qemu_greets_on_each_slot_and_no_more(client: Client) -> None:
    first = [opened(client, "slots") for _ in range(SLOTS)]
    try:
        assert all(b"qemu usb-redir guest" in greeting(one) for one in first)
        with pytest.raises(InvalidStatus) as caught:
            opened(client, "slots")
        assert caught.value.response.status_code == 409
        assert f"all {SLOTS} slots for USB devices are taken" in caught.value.response.body.decode()
    finally:
        for one in first:
            one.close()
    with opened(client, "slots") as again:
        assert b"qemu usb-redir guest" in greeting(again)


def test_a_guest_asks_a_device_for_what_it_is() -> None:
    devices = {"autoattachPodInterface": False, "clientPassthrough": {}}
    with ExitStack() as stack:
        base = stack.enter_context(short_folder())
        (base / "scratch").mkdir()
        one = start("usb", Guest({"memory": {"guest": "160Mi"}, "devices": devices}), base)
        stack.callback(one.close)
        one.says(b"FACT end", 120)
        peer = stack.enter_context(socket.socket(socket.AF_UNIX))
        peer.settimeout(60)
        peer.connect(str(one.folder / "usb0.sock"))
        device = Redirection(lambda: peer.recv(4096), peer.sendall)
        device.greeted()
        device.greet()
        device.send(INTERFACES, struct.pack("<I", 1) + bytes(4 * 32))
        kinds = bytes([0, *[NO_ENDPOINT] * 15] * 2)
        device.send(ENDPOINTS, kinds + bytes(32) + bytes(32) + struct.pack("<32H", *[8] * 32))
        device.send(CONNECT, struct.pack("<BBBBHH", 1, 0, 0, 0, 0x046D, 0xC31C))
        while (packet := device.packet())[0] != CONTROL:
            continue
        assert packet[1][1] == GET_DESCRIPTOR


def test_one_that_asks_for_none_has_none(client: Client) -> None:
    with pytest.raises(InvalidStatus) as caught:
        opened(client, "none")
    assert caught.value.response.status_code == 400
    assert "Not configured with USB Redirection" in caught.value.response.body.decode()


def test_the_command_runs_usbredirect(home: Standalone, tmp_path: Path) -> None:
    program = tmp_path / "usbredirect"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    environment = {**os.environ, "POLYVISOR_STATE_DIR": str(home.folder), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [BIN / "polyvisor", "usbredir", "046d:c31c", "slots"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=60)
    assert b"qemu usb-redir guest" in program.with_name("usbredirect.heard").read_bytes()
