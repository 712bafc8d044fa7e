"""A real guest's screen, agent channel, reboot and reset, through the launcher's own protocol."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyvisor.agent.images.store import ImageStore
from polyvisor.agent.link.connection import LauncherError
from polyvisor.agent.link.descriptors import ask_for_descriptor
from polyvisor.domain import render
from polyvisor.drivers import registry
from polyvisor.drivers.base import Driver, ProbeResult, Verdict
from tests.drivers.conftest import boot_of
from tests.drivers.kit import Bench, Client, bench, machine

READY = b"login:"  # before that a guest may not hear its power button
KERNEL = {"firmware": {"kernelBoot": {"kernelArgs": "console=ttyS0"}}}


def able(driver: Driver, feature: str) -> bool:
    return driver.features[feature].verdict is Verdict.SUPPORTED


@pytest.fixture(scope="module")
def one(
    driver: Driver, probed: ProbeResult, store: ImageStore, scratch: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    """A launcher whose guest is up, and is again after each test."""
    bootable = boot_of(driver, probed, store, tmp_path_factory.mktemp(driver.name))
    vmi = machine(driver, KERNEL if bootable.kernel else {})
    with bench(driver, vmi, scratch / driver.name) as one:
        sockets = {}
        if able(driver, "lifecycle.vnc"):
            sockets["graphics_socket"] = one.folder / "vnc.sock"
        if able(driver, "lifecycle.guest-agent"):
            sockets["agent_socket"] = one.folder / "agent.sock"
        agent = one.launch()
        agent.result("start", xml=render(vmi, driver, dataclasses.replace(bootable, **sockets)))
        one.says(READY)
        agent.close()
        yield one


def exactly(peer: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = peer.recv(count - len(data))
        assert part, data
        data += part
    return data


def test_screen_speaks_rfb_and_is_photographed(driver: Driver, one: Bench) -> None:
    path = one.folder / "launcher.sock"
    if not able(driver, "lifecycle.vnc"):
        with pytest.raises(LauncherError):
            asyncio.run(ask_for_descriptor(path, "screen"))
        with pytest.raises(LauncherError):
            asyncio.run(ask_for_descriptor(path, "screenshot"))
        return
    found, _ = asyncio.run(ask_for_descriptor(path, "screen"))
    with socket.socket(fileno=found.take()) as screen:
        screen.settimeout(10)
        assert exactly(screen, 12) == b"RFB 003.008\n"
        screen.sendall(b"RFB 003.008\n")
        kinds = exactly(screen, exactly(screen, 1)[0])
        assert 1 in kinds  # no password: the socket was handed over by the launcher
        screen.sendall(b"\1")
        assert exactly(screen, 4) == b"\0\0\0\0"
        screen.sendall(b"\1")
        width, height = struct.unpack(">HH", exactly(screen, 4))
    picture, told = asyncio.run(ask_for_descriptor(path, "screenshot"))
    with os.fdopen(picture.take(), "rb") as file:
        data = file.read()
    assert told["size"] == len(data)
    if told["type"] == "image/png":
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        assert struct.unpack(">II", data[16:24]) == (width, height)
    else:
        assert data.startswith(f"P6\n{width} {height}\n255\n".encode())


def test_reset_and_reboot_restart_the_guest(driver: Driver, one: Bench) -> None:
    """What the table refuses never comes to a launcher."""
    agent = Client(one.folder)
    for operation in ("reset", "reboot"):
        if able(driver, f"lifecycle.{operation}"):
            before = one.console_log().count(READY)
            assert agent.result(operation)["state"] == "running"
            one.says_again(READY, before, seconds=90)
            agent.until("running")


def test_an_agent_that_is_not_there(driver: Driver, one: Bench) -> None:
    agent = Client(one.folder)
    assert agent.result("state")["agent"] is False
    for operation in ("freeze", "thaw"):
        assert "error" in agent.ask(operation)
    assert "error" in agent.ask("agent", command={"execute": "guest-ping"}, timeout=1)
    assert agent.ask("agent", command="guest-ping")["error"]["code"] == "bad-request"
    assert registry().get(driver.name)
