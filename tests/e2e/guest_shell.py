"""A guest's console and status, as tests use them: someone who types and reads, someone who looks and waits."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from polyvisor.cli.client import Client
from polyvisor.cli.console import connected
from polyvisor.cli.websocket import Websocket

VMIS = "/apis/kubevirt.io/v1/namespaces/default/virtualmachineinstances"


def until(client: Client, name: str, reached: Any, seconds: float = 90) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while True:
        status: dict[str, Any] = client.get(f"{VMIS}/{name}").get("status") or {}
        if reached(status):
            return status
        assert time.monotonic() < deadline, status
        time.sleep(0.2)


def true(status: dict[str, Any], condition: str) -> bool:
    return any(c["type"] == condition and c["status"] == "True" for c in status.get("conditions") or [])


class Shell:
    """A guest's console as one who types there has it."""

    KEPT = 1 << 14
    """How much of what was heard is kept, bytes: a pattern may begin many messages before its end."""

    def __init__(self, websocket: Websocket) -> None:
        self._websocket = websocket
        self.heard = b""

    def until(self, pattern: bytes, seconds: float = 60) -> re.Match[bytes]:
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.heard)):
            assert time.monotonic() < deadline, self.heard[-2000:]
            try:
                self.heard = self.heard[-self.KEPT :] + self._websocket.recv(timeout=1)
            except TimeoutError:
                continue
        self.heard = self.heard[found.end() :]
        return found

    def type(self, text: str) -> None:
        self._websocket.send(text.encode() + b"\n")

    def says(self, command: str, pattern: bytes) -> re.Match[bytes]:
        self.type(command)
        return self.until(pattern)


@contextmanager
def shell(client: Client, name: str) -> Iterator[Shell]:
    with connected(client, "default", name) as websocket:
        console = Shell(websocket)
        console.type("")
        if console.until(rb"login: |# ")[0] == b"login: ":
            console.type("root")
            console.until(rb"# ")
        yield console
