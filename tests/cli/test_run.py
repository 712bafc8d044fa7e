"""``run`` on a machine where a driver that the manifest asks for does not work."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from polyvisor import prerequisites
from polyvisor.cli import run as waiting
from polyvisor.cli.errors import CliError
from polyvisor.cli.run import tell_unavailable, wait_running
from polyvisor.drivers.pace import Deadline
from polyvisor.kube.errors import UNREACHABLE, ApiError
from polyvisor.prerequisites import Distribution, Prerequisite

LACKS = {"name": "one", "title": "One", "available": False, "reason": "it is not installed; apt-get install engine"}
SLOW = {"name": "two", "title": "Two", "available": False, "reason": "the probe has not ended within 9 s; it goes on"}
WORKS = {"name": "three", "title": "Three", "available": True, "reason": ""}
ENGINE = Prerequisite("package", {"debian": "engine"}, programs=("none-such",), drivers=("one",))


@pytest.fixture(autouse=True)
def lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "try_again", lambda *_: [LACKS, SLOW, WORKS])
    monkeypatch.setattr(prerequisites, "everything", lambda: (ENGINE,))
    monkeypatch.setattr(prerequisites, "this_distribution", lambda: Distribution("debian", "apt-get install"))


def tell(hypervisor: Mapping[str, Any], *, vm: bool = False) -> None:
    node = {"metadata": {"annotations": {"hypervisor.kubevirt.io/drivers": json.dumps([LACKS, SLOW, WORKS])}}}
    session: Any = SimpleNamespace(client=SimpleNamespace(get=lambda path: {"items": [node]}))
    spec: dict[str, Any] = {"hypervisor": hypervisor}
    machine = {"metadata": {"name": "demo"}, "spec": {"template": {"spec": spec}} if vm else spec}
    tell_unavailable(session, machine, Deadline(60.0))


@pytest.mark.parametrize("vm", [False, True])
def test_what_is_missing_ends_the_wait_with_the_command(vm: bool) -> None:
    with pytest.raises(CliError) as caught:
        tell({"driver": "one"}, vm=vm)
    assert caught.value.message == (
        "demo: One is not available on this machine: it is not installed; apt-get install engine"
    )


def test_what_was_installed_meanwhile_is_no_longer_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(waiting, "try_again", lambda *_: [{**LACKS, "available": True, "reason": ""}])
    tell({"driver": "one"})
    assert capsys.readouterr().err == ""


def test_what_is_known_is_told_where_the_drivers_cannot_be_tried_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(*_: Any) -> Any:
        raise ApiError(0, UNREACHABLE, "timed out")

    monkeypatch.setattr(waiting, "try_again", away)
    tell({"driver": "two"})
    said = capsys.readouterr().err
    assert "timed out; what is known of the drivers may be old" in said
    assert "demo: Two is not available on this machine: " in said


@pytest.mark.parametrize("hypervisor", [{"driver": "two"}, {"anyOf": ["one", "two"]}])
def test_what_does_not_work_yet_is_told_and_waited_for(
    hypervisor: Mapping[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    tell(hypervisor)
    said = capsys.readouterr().err
    assert "demo: Two is not available on this machine: the probe has not ended within 9 s; it goes on\n" in said


@pytest.mark.parametrize("hypervisor", [{}, {"driver": "three"}, {"anyOf": ["one", "three"]}, {"driver": "unheard"}])
def test_nothing_is_said_where_a_driver_works_or_nobody_knows(
    hypervisor: Mapping[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    tell(hypervisor)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("here", [True, False])
@pytest.mark.parametrize(
    ("program", "ends"), [("none-such", True), ("sh", False)], ids=["missing", "installed meanwhile"]
)
def test_a_program_that_the_agent_misses_ends_the_wait_on_this_machine(here: bool, program: str, ends: bool) -> None:
    message = f"writing a disc: {program} is not installed; apt-get install it"
    condition = {"type": "Synchronized", "status": "False", "reason": "SyncFailed", "message": message}
    phases = ["Scheduled", "Running"]

    def get(path: str, *_: Any) -> Any:
        if path.endswith("/events"):
            return {"items": []}
        status = {"phase": phases.pop(0), "conditions": [condition]}
        return {"items": [{"status": status}], "metadata": {"resourceVersion": "1"}}

    session: Any = SimpleNamespace(client=SimpleNamespace(get=get, watch=lambda *_, **__: iter(())))
    if here and ends:
        with pytest.raises(CliError) as caught:
            wait_running(session, "default", "demo", Deadline(60.0), here=here)
        assert caught.value.message == f"demo: {message}"
    else:
        wait_running(session, "default", "demo", Deadline(60.0), here=here)
        assert phases == []


def test_an_api_server_that_does_not_answer_for_a_while_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = ApiError(0, UNREACHABLE, "cannot reach the API server: The handshake operation timed out")
    runs = {"items": [{"status": {"phase": "Running"}}], "metadata": {"resourceVersion": "1"}}
    answers = [lost, lost, runs]

    def get(*_: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, ApiError):
            raise answer
        return answer

    monkeypatch.setattr(waiting, "AGAIN_SECONDS", 0.0)
    session: Any = SimpleNamespace(client=SimpleNamespace(get=get))
    wait_running(session, "default", "demo", Deadline(60.0))
    assert answers == []
    assert capsys.readouterr().err.count("handshake operation timed out; trying again") == 1


def test_a_limit_ends_the_wait_for_an_api_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(*_: Any) -> Any:
        raise ApiError(0, UNREACHABLE, "cannot reach the API server")

    now = iter(range(0, 100, 10))
    monkeypatch.setattr(waiting, "AGAIN_SECONDS", 0.0)
    session: Any = SimpleNamespace(client=SimpleNamespace(get=get))
    deadline = Deadline(25.0, clock=lambda: float(next(now)), measure=lambda: 1.0)
    with pytest.raises(CliError, match="demo is not running yet"):
        wait_running(session, "default", "demo", deadline)
