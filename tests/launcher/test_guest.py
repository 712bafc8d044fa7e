"""What a launcher does with a running guest, over a libvirt that is played: reboot, freeze, agent, ports, pictures."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import libvirt
import pytest

from polyvisor.launcher import guest as module
from polyvisor.launcher.guest import Guest
from polyvisor.launcher.machine import Refused

CARD = "<domain><devices><interface type='user'><mac address='x'/><alias name='ua-net'/></interface></devices></domain>"
AGENT = "libvirt_played.agent"
FORWARD = {
    "call": "libvirt_played.monitor",
    "flags": "1",
    "open": "open {alias} {local} {port}",
    "list": "list",
    "accepted": r"accepted {local}\b",
    "close": "close {alias} {local}",
}


class Refusal(libvirt.libvirtError):  # type: ignore[misc]
    def __init__(self, code: int) -> None:
        Exception.__init__(self, "refused")
        self.code = code

    def get_error_code(self) -> int:
        return self.code


class Stream:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.finished = False

    def recvAll(self, handler: Any, opaque: Any) -> None:
        for start in range(0, len(self.data), 1000):
            handler(self, self.data[start : start + 1000], opaque)

    def finish(self) -> None:
        self.finished = True


class Domain:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.takes = {0}
        self.xml = CARD
        self.thawed = threading.Event()
        self.stream = Stream(b"picture" * 1000)

    def reboot(self, flags: int) -> None:
        if flags not in self.takes:
            raise Refusal(libvirt.VIR_ERR_INVALID_ARG)
        self.asked.append(f"reboot {flags}")

    def reset(self, flags: int) -> None:
        self.asked.append("reset")

    def fsFreeze(self, _mounts: Any, _flags: int) -> None:
        if self.asked[-1:] == ["freeze"]:
            raise Refusal(libvirt.VIR_ERR_INTERNAL_ERROR)
        self.asked.append("freeze")

    def fsThaw(self, _mounts: Any, _flags: int) -> None:
        self.asked.append("thaw")
        self.thawed.set()

    def XMLDesc(self) -> str:
        return self.xml

    def openGraphicsFD(self, *_: int) -> int:
        raise Refusal(libvirt.VIR_ERR_NO_SUPPORT)

    def connect(self) -> Any:
        return SimpleNamespace(newStream=lambda _flags: self.stream)

    def coreDumpWithFormat(self, path: str, *how: int) -> None:
        assert how == (libvirt.VIR_DOMAIN_CORE_DUMP_FORMAT_RAW, libvirt.VIR_DUMP_MEMORY_ONLY)
        self.asked.append(f"dump {path}")

    def screenshot(self, stream: Stream, _screen: int, _flags: int) -> str:
        return "image/png"


class Played:
    """A machine with a domain, and the plan that it has."""

    def __init__(self, folder: Path) -> None:
        self.running = Domain()
        self.plan: Any = SimpleNamespace(
            metrics=[], folder=folder, reboot=("default",), forward=FORWARD, agent="libvirt_played.agent"
        )
        self.said: list[str] = []

    def domain(self) -> Domain:
        return self.running

    def guest(self) -> Guest:
        machine: Any = self
        return Guest(machine, self.plan, self.said.append)


@pytest.fixture
def one(tmp_path: Path) -> Played:
    return Played(tmp_path)


def test_the_first_way_of_rebooting_that_is_taken_counts(one: Played) -> None:
    one.plan.reboot = ("agent", "acpi", "default")
    one.guest().reboot()
    assert one.running.asked == ["reboot 0"]
    one.running.takes = set()
    with pytest.raises(libvirt.libvirtError, match="refused"):
        one.guest().reboot()


def test_memory_is_dumped_into_the_file_that_is_named(one: Played) -> None:
    one.guest().dump("/proc/1/fd/3")
    assert one.running.asked == ["dump /proc/1/fd/3"]
    for path in ("", "relative", 3, None):
        with pytest.raises(Refused):
            one.guest().dump(path)


@pytest.mark.parametrize("status", ["frozen", "thawed"])
def test_file_systems_that_hold_still_may_be_told_so_again(
    one: Played, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    answer = json.dumps({"return": status})
    agent = SimpleNamespace(agent=lambda _domain, text, *_: answer if "fsfreeze-status" in text else "")
    monkeypatch.setitem(sys.modules, "libvirt_played", agent)
    guest = one.guest()
    guest.freeze(0)
    if status == "frozen":
        guest.freeze(0)
    else:
        with pytest.raises(libvirt.libvirtError, match="refused"):
            guest.freeze(0)


def test_frozen_file_systems_go_on_by_themselves(one: Played, tmp_path: Path) -> None:
    guest = one.guest()
    guest.freeze(0.05)
    assert (tmp_path / "frozen-until").exists()
    assert one.running.thawed.wait(5)
    assert one.running.asked == ["freeze", "thaw"]


def test_the_next_launcher_keeps_the_limit(one: Played, tmp_path: Path) -> None:
    one.guest().freeze(600)
    (tmp_path / "frozen-until").write_text(f"{time.time() - 1}\n")
    later = one.guest()
    later.begin()
    assert one.running.thawed.wait(5)
    one.running.thawed.clear()
    for text in ("", "soon", None):
        (tmp_path / "frozen-until").unlink(missing_ok=True)
        if text is not None:
            (tmp_path / "frozen-until").write_text(text)
        later.begin()
    assert not one.running.thawed.wait(0.1)


def test_thawing_takes_the_limit_away(one: Played, tmp_path: Path) -> None:
    guest = one.guest()
    guest.freeze(0.2)
    guest.thaw()
    assert not (tmp_path / "frozen-until").exists()
    one.running.thawed.clear()
    assert not one.running.thawed.wait(0.4)
    guest.freeze(0)
    assert not (tmp_path / "frozen-until").exists()


@pytest.fixture
def monitor(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """libvirt's module for what only one hypervisor has, played: an agent that echoes, and a monitor that forwards."""
    told: list[str] = []
    listeners: dict[int, socket.socket] = {}

    def agent(_domain: Any, command: str, seconds: int, _flags: int) -> str:
        told.append(f"{command} {seconds}")
        return json.dumps({"return": {"echo": json.loads(command)["execute"]}})

    def tell(_domain: Any, command: str, _flags: int) -> str:
        word, *rest = command.split()
        told.append(word)
        if word == "open":
            if rest[2] == "81":
                return "Could not set up\r\n"
            listeners[int(rest[1])] = one = socket.create_server(("127.0.0.1", int(rest[1])))
            one.settimeout(5)
        elif word == "list":
            (local, listener), *_ = listeners.items()
            peer, _ = listener.accept()
            peer.sendall(b"from the guest")
            peer.close()
            return f"accepted {local} \r\n"
        elif word == "close":
            listeners.pop(int(rest[1])).close() if int(rest[1]) in listeners else None
        return ""

    played = SimpleNamespace(agent=agent, monitor=tell)
    monkeypatch.setitem(sys.modules, "libvirt_played", played)
    yield told
    assert not listeners, "a local port was left open"


def test_an_agent_is_asked_within_limits(one: Played, monitor: list[str]) -> None:
    guest = one.guest()
    assert guest.command({"execute": "guest-ping"}, None) == {"answer": {"echo": "guest-ping"}}
    guest.command({"execute": "guest-ping"}, 10**9)
    guest.command({"execute": "guest-ping"}, -5)
    assert [text.split()[-1] for text in monitor] == ["5", str(module.MOST_AGENT_SECONDS), "1"]
    for command, seconds in (("guest-ping", None), (None, 1), ({}, "long")):
        with pytest.raises(Refused):
            guest.command(command, seconds)


def test_an_agent_is_reached_only_by_what_the_driver_names(one: Played) -> None:
    one.plan.agent = ""
    with pytest.raises(Refused, match="libvirt reaches no agent inside this hypervisor's guests"):
        one.guest().command({"execute": "guest-ping"}, None)
    one.plan.agent = "os.system"
    with pytest.raises(Refused, match="is not a function of libvirt's"):
        one.guest().command({"execute": "guest-ping"}, None)


def test_a_port_is_open_for_the_moment_of_connecting(one: Played, monitor: list[str]) -> None:
    found = one.guest().port(80)
    assert monitor == ["open", "list", "close"]
    with socket.socket(fileno=found["descriptor"]) as peer:
        assert peer.recv(100) == b"from the guest"


@pytest.mark.parametrize("port", [0, 65536, "80", None, 1.5])
def test_no_port(one: Played, monitor: list[str], port: object) -> None:
    with pytest.raises(Refused, match="is not a port"):
        one.guest().port(port)
    assert monitor == []


def test_ports_that_cannot_be_had(one: Played, monitor: list[str]) -> None:
    with pytest.raises(Refused, match="Could not set up"):
        one.guest().port(81)
    one.plan.forward = {}
    with pytest.raises(Refused, match="no network interface with an address"):
        one.guest().port(80)
    one.plan.forward = FORWARD
    one.running.xml = "<domain><interface type='bridge'></interface></domain>"
    with pytest.raises(Refused, match="no network interface with an address"):
        one.guest().port(80)


def test_a_screen_on_a_socket_or_a_port_of_the_host(one: Played, tmp_path: Path) -> None:
    path = tmp_path / "vnc.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.create_server(("127.0.0.1", 0)) as other:
        listener.bind(str(path))
        listener.listen()
        one.running.xml = f"<graphics type='vnc' socket='{path}'/>"
        os.close(one.guest().screen()["descriptor"])
        number = other.getsockname()[1]
        one.running.xml = f"<graphics type='vnc' port='{number}' autoport='yes' listen='127.0.0.1'>"
        os.close(one.guest().screen()["descriptor"])
    one.running.xml = "<graphics type='spice'/>"
    with pytest.raises(Refused, match="no screen"):
        one.guest().screen()


def test_a_screenshot_comes_as_a_file(one: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    found = one.guest().screenshot()
    with os.fdopen(found["descriptor"], "rb") as file:
        assert file.read() == one.running.stream.data
    assert (found["type"], found["size"]) == ("image/png", 7000)
    assert one.running.stream.finished
    monkeypatch.setattr(module, "SCREENSHOT_BYTES", 500)
    with pytest.raises(ValueError, match="too large"):
        one.guest().screenshot()


def test_a_slot_for_usb_devices(one: Played, tmp_path: Path) -> None:
    paths = [tmp_path / f"usb{number}.sock" for number in range(2)]
    one.running.xml = "".join(
        f"<redirdev bus='usb' type='unix'>\n  <source mode='bind' path='{path}'/><alias name='ua-usb'/></redirdev>"
        for path in paths
    )
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(paths[1]))
        listener.listen()
        os.close(one.guest().usb(1)["descriptor"])
    for wrong in (2, -1, None, "0"):
        with pytest.raises(Refused, match="2 slots for USB devices"):
            one.guest().usb(wrong)
