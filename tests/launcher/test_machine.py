"""How a start ends, and how the next launcher ends one that was cut off, over a libvirt that is played."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest

from polyvisor.launcher.machine import Machine
from polyvisor.launcher.plan import Plan, read_plan

UUID = "11111111-2222-4333-8444-555555555555"


class Refusal(libvirt.libvirtError):  # type: ignore[misc]
    def __init__(self, code: int) -> None:
        Exception.__init__(self, "refused")
        self.code = code

    def get_error_code(self) -> int:
        return self.code


class Domain:
    """A domain that notes what is asked of it."""

    def __init__(self, *, can_start_paused: bool = True) -> None:
        self.can_start_paused = can_start_paused
        self.now = libvirt.VIR_DOMAIN_SHUTOFF
        self.why = 0
        self.asked: list[str] = []

    def name(self) -> str:
        return "ns_vm"

    def UUIDString(self) -> str:
        return UUID

    def ID(self) -> int:
        return 1

    def isActive(self) -> bool:
        return bool(self.now != libvirt.VIR_DOMAIN_SHUTOFF)

    def state(self) -> tuple[int, int]:
        return self.now, self.why

    def createWithFlags(self, flags: int) -> None:
        if flags and not self.can_start_paused:
            raise Refusal(libvirt.VIR_ERR_INVALID_ARG)
        self.asked.append("create paused" if flags else "create")
        self.now = libvirt.VIR_DOMAIN_PAUSED if flags else libvirt.VIR_DOMAIN_RUNNING

    def suspend(self) -> None:
        self.asked.append("suspend")
        self.now = libvirt.VIR_DOMAIN_PAUSED

    def resume(self) -> None:
        self.asked.append("resume")
        self.now = libvirt.VIR_DOMAIN_RUNNING

    def memoryStats(self) -> dict[str, int]:
        return {}


class Connection:
    def __init__(self, domain: Domain) -> None:
        self.domain = domain

    def domainEventRegisterAny(self, *_: Any) -> None: ...

    def registerCloseCallback(self, *_: Any) -> None: ...

    def getLibVersion(self) -> int:
        return 9000000

    getVersion = getLibVersion

    def getType(self) -> str:
        return "played"

    def defineXML(self, xml: str) -> Domain:
        return self.domain

    def lookupByUUIDString(self, uuid: str) -> Domain:
        return self.domain


def plan(folder: Path, start_paused: bool) -> Plan:
    content = {"protocol": 1, "uri": "played:///", "start_paused": start_paused}
    content["domain"] = {"name": "ns_vm", "uuid": UUID}
    (folder / "plan.json").write_text(json.dumps(content))
    return read_plan(folder)


def machine(folder: Path, domain: Domain, monkeypatch: pytest.MonkeyPatch, start_paused: bool = True) -> Machine:
    monkeypatch.setattr(libvirt, "openAuth", lambda *_: Connection(domain))
    return Machine(plan(folder, start_paused), lambda: None, lambda _: None)


@pytest.mark.parametrize("console_first", [True, False])
@pytest.mark.parametrize(
    ("paused", "can", "asked"),
    [
        (True, True, ["create paused", "console"]),
        (True, False, ["create", "console", "suspend"]),
        (False, False, ["create", "console"]),
    ],
)
def test_a_machine_starts_as_asked_whatever_the_driver_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paused: bool, can: bool, asked: list[str], console_first: bool
) -> None:
    domain = Domain(can_start_paused=can)
    one = machine(tmp_path, domain, monkeypatch, start_paused=console_first)
    state = one.start("<domain/>", lambda: domain.asked.append("console"), paused)
    assert domain.asked == asked
    assert state["state"] == ("paused" if paused else "running")
    assert state["reason"] == ""
    kept = json.loads((tmp_path / "state.json").read_text())
    assert (kept["starting"], kept["wait"]) == (False, False)


def test_a_machine_that_shall_run_is_let_go_once_its_console_is_attached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = Domain()
    one = machine(tmp_path, domain, monkeypatch)
    one.start("<domain/>", lambda: domain.asked.append("console"))
    assert domain.asked == ["create paused", "console", "resume"]


@pytest.mark.parametrize(
    ("why", "state"), [(libvirt.VIR_DOMAIN_PAUSED_DUMP, "running"), (libvirt.VIR_DOMAIN_PAUSED_USER, "paused")]
)
def test_a_guest_that_is_held_for_a_dump_was_not_paused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: int, state: str
) -> None:
    domain = Domain()
    one = machine(tmp_path, domain, monkeypatch)
    one.start("<domain/>", lambda: None)
    domain.now, domain.why = libvirt.VIR_DOMAIN_PAUSED, why
    one.refresh()
    assert one.state["state"] == state


@pytest.mark.parametrize("paused", [True, False])
@pytest.mark.parametrize("can", [True, False])
def test_a_start_that_was_cut_off_is_finished_as_it_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paused: bool, can: bool
) -> None:
    domain = Domain(can_start_paused=can)

    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    with pytest.raises(Killed):
        machine(tmp_path, domain, monkeypatch).start("<domain/>", die, paused)
    following = machine(tmp_path, domain, monkeypatch)
    following.open()
    assert following.state["state"] == ("paused" if paused else "running")
    assert following.state["reason"] == ""
    following.pause()
    third = machine(tmp_path, domain, monkeypatch)
    third.open()
    assert (third.state["state"], third.state["reason"]) == ("paused", "")


def test_what_else_libvirt_refuses_is_not_tried_another_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    domain = Domain()
    tried: list[int] = []

    def refuse(flags: int) -> None:
        tried.append(flags)
        raise Refusal(libvirt.VIR_ERR_OPERATION_FAILED)

    monkeypatch.setattr(domain, "createWithFlags", refuse)
    monkeypatch.setattr(domain, "undefineFlags", lambda _: None, raising=False)
    with pytest.raises(Refusal):
        machine(tmp_path, domain, monkeypatch).start("<domain/>", lambda: None, paused=True)
    assert len(tried) == 1


def test_where_there_are_no_events_the_machine_is_looked_at_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Eventless(Connection):
        def domainEventRegisterAny(self, *_: Any) -> None:
            raise Refusal(libvirt.VIR_ERR_NO_SUPPORT)

    domain = Domain()
    plan(tmp_path, False)
    content = json.loads((tmp_path / "plan.json").read_text())
    (tmp_path / "plan.json").write_text(json.dumps({**content, "poll_seconds": 0.01}))
    monkeypatch.setattr(libvirt, "openAuth", lambda *_: Eventless(domain))
    looked = threading.Event()
    one = Machine(read_plan(tmp_path), looked.set, lambda _: None)
    one.start("<domain/>", lambda: None)
    looked.clear()
    domain.now = libvirt.VIR_DOMAIN_SHUTOFF
    assert looked.wait(10)
    one.refresh()
    assert (one.state["state"], one.state["reason"]) == ("shutoff", "unknown")
    one.close(final=False)


@pytest.mark.parametrize("how", ["shutdown", "destroyed"])
def test_an_end_without_a_reason_is_what_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    class Obedient(Domain):
        def shutdownFlags(self, mode: int) -> None:
            self.now = libvirt.VIR_DOMAIN_SHUTOFF

        def destroy(self) -> None:
            self.now = libvirt.VIR_DOMAIN_SHUTOFF

    one = machine(tmp_path, Obedient(), monkeypatch)
    one.start("<domain/>", lambda: None)
    one.shutdown(0) if how == "shutdown" else one.destroy()
    one.refresh()
    assert one.state["reason"] == how


def adopted(folder: Path, domain: Domain, monkeypatch: pytest.MonkeyPatch, changed: Callable[[], None]) -> Machine:
    """A machine whose domain a former launcher has started."""
    domain.now = libvirt.VIR_DOMAIN_RUNNING
    monkeypatch.setattr(libvirt, "openAuth", lambda *_: Connection(domain))
    one = Machine(plan(folder, True), changed, lambda _: None)
    one.open()
    return one


def test_a_domain_that_libvirt_gives_up_while_it_is_destroyed_was_destroyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unreachable(Domain):
        def destroy(self) -> None:
            self.now, self.why = libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED
            raise Refusal(libvirt.VIR_ERR_OPERATION_INVALID)

    one = adopted(tmp_path, Unreachable(), monkeypatch, lambda: None)
    one.destroy()
    assert (one.state["state"], one.state["reason"]) == ("shutoff", "destroyed")


def test_a_domain_that_cannot_be_destroyed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck(Domain):
        def destroy(self) -> None:
            raise Refusal(libvirt.VIR_ERR_OPERATION_TIMEOUT)

    one = adopted(tmp_path, Stuck(), monkeypatch, lambda: None)
    with pytest.raises(Refusal):
        one.destroy()
    assert one.state["state"] == "running"


def test_a_domain_is_looked_at_again_when_libvirt_has_taken_it_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is seen running before; where libvirt then gives it up, no event says so."""
    taken_over = threading.Event()
    answers = [libvirt.VIR_ERR_OPERATION_TIMEOUT, libvirt.VIR_ERR_OPERATION_INVALID]

    class Busy(Domain):
        def memoryStats(self) -> dict[str, int]:
            if len(answers) == 1:
                self.now = libvirt.VIR_DOMAIN_SHUTOFF
            raise Refusal(answers.pop(0))

    def changed() -> None:
        if not answers:
            taken_over.set()

    one = adopted(tmp_path, Busy(), monkeypatch, changed)
    assert taken_over.wait(20)
    one.refresh()
    assert one.state["state"] == "shutoff"


@pytest.mark.parametrize(("runs", "state"), [(True, "running"), (False, "shutoff")])
def test_a_reboot_that_is_told_as_a_stop_is_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: bool, state: str
) -> None:
    domain = Domain()
    one = machine(tmp_path, domain, monkeypatch)
    one.start("<domain/>", lambda: None)
    domain.now = libvirt.VIR_DOMAIN_RUNNING if runs else libvirt.VIR_DOMAIN_SHUTOFF
    one._event(None, domain, libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN, None)
    assert one.state["state"] == state


@pytest.mark.parametrize(("asked", "reason"), [("destroyed", "destroyed"), ("", "failed")])
def test_a_container_that_is_destroyed_while_it_comes_up_has_not_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, reason: str
) -> None:
    domain = Domain()
    one = machine(tmp_path, domain, monkeypatch)
    one.start("<domain/>", lambda: None)
    one._asked = asked
    domain.now = libvirt.VIR_DOMAIN_SHUTOFF
    one._event(None, domain, libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED, None)
    assert one.state["reason"] == reason


@pytest.mark.parametrize(
    ("xml", "path"),
    [
        ("<console type='pty' tty='/dev/pts/4'>", "/dev/pts/4"),
        ("<serial type='pty'>\n  <source path='/dev/pts/5'/>", "/dev/pts/5"),
        ("<serial type='pty'><source path='/dev/pts/5'/></serial><console type='pty' tty='/dev/pts/4'>", "/dev/pts/4"),
        ("<serial type='unix'>\n  <source mode='bind' path='/tmp/s'/>", ""),
    ],
)
def test_the_console_is_a_terminal_or_else_a_serial_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, xml: str, path: str
) -> None:
    domain = Domain()
    one = machine(tmp_path, domain, monkeypatch)
    monkeypatch.setattr(domain, "XMLDesc", lambda: xml, raising=False)
    one.start("<domain/>", lambda: None)
    assert one.inspect() == path
