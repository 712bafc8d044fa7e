"""What start, stop and restart come to, by run strategy."""

from __future__ import annotations

from typing import Any

import jsonpatch
import pytest

from polyvisor.server import requests
from polyvisor.server.errors import Refusal

Obj = dict[str, Any]


def vm(strategy: str | None = None, running: bool | None = None, **status: Any) -> Obj:
    spec = {"runStrategy": strategy} if strategy else {"running": running}
    return {"metadata": {"name": "demo"}, "spec": spec, "status": status}


def vmi(phase: str, grace: int | None = None) -> Obj:
    spec = {} if grace is None else {"terminationGracePeriodSeconds": grace}
    return {"metadata": {"name": "demo", "uid": "u1"}, "spec": spec, "status": {"phase": phase}}


def after(obj: Obj, decision: requests.Decision) -> Obj:
    result: Obj = jsonpatch.apply_patch(obj, decision.patch)
    return result


def actions(obj: Obj, decision: requests.Decision) -> list[str]:
    assert decision.status
    return [request["action"] for request in after(obj, decision)["status"]["stateChangeRequests"]]


def test_start_of_a_halted_machine_changes_its_spec() -> None:
    halted = vm("Halted")
    decision = requests.start(halted, None, {})
    assert not decision.status
    assert after(halted, decision)["spec"]["runStrategy"] == "Always"
    older = vm(running=False)
    assert after(older, requests.start(older, None, {}))["spec"] == {"running": True}


def test_paused_start_is_a_request() -> None:
    halted = vm("Halted")
    result = after(halted, requests.start(halted, None, {"paused": True}))
    assert result["status"]["stateChangeRequests"] == [{"action": "Start", "data": {"paused": "true"}}]


@pytest.mark.parametrize("strategy", ["Manual", "RerunOnFailure"])
def test_start_by_request(strategy: str) -> None:
    assert actions(vm(strategy), requests.start(vm(strategy), None, {})) == ["Start"]
    assert actions(vm(strategy), requests.start(vm(strategy), vmi("Succeeded"), {})) == ["Stop", "Start"]


@pytest.mark.parametrize(
    ("machine", "instance", "message"),
    [
        (vm("Halted"), vmi("Running"), "VM is already running"),
        (vm("Always"), None, "Always does not support manual start requests"),
        (vm("Once"), None, "Once does not support manual start requests"),
        (vm("RerunOnFailure"), vmi("Failed"), "does not support starting VM from failed state"),
        (vm("Manual", stateChangeRequests=[{"action": "Start"}]), None, "stop/start already underway"),
    ],
)
def test_refused_starts(machine: Obj, instance: Obj | None, message: str) -> None:
    with pytest.raises(Refusal, match=message) as caught:
        requests.start(machine, instance, {})
    assert caught.value.code == 409
    assert caught.value.to_obj()["reason"] == "Conflict"


@pytest.mark.parametrize("strategy", ["Always", "Once"])
def test_stop_of_a_machine_that_shall_run(strategy: str) -> None:
    decision = requests.stop(vm(strategy), vmi("Running"), {})
    assert after(vm(strategy), decision)["spec"]["runStrategy"] == "Halted"


def test_stop_by_request_names_the_instance() -> None:
    machine = vm("Manual", stateChangeRequests=[{"action": "Start"}])
    result = after(machine, requests.stop(machine, vmi("Running"), {}))
    assert result["status"]["stateChangeRequests"] == [{"action": "Stop", "uid": "u1"}]


@pytest.mark.parametrize(
    ("strategy", "instance", "body", "message"),
    [
        ("Manual", None, {}, "VM is not running"),
        ("Halted", None, {}, "VM is not running"),
        ("Halted", vmi("Running", 30), {}, "shorter graceperiod"),
        ("Halted", vmi("Running", 30), {"gracePeriod": 30}, "shorter graceperiod"),
    ],
)
def test_refused_stops(strategy: str, instance: Obj | None, body: Obj, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        requests.stop(vm(strategy), instance, body)


def test_halted_machine_can_be_stopped_faster() -> None:
    assert actions(vm("Halted"), requests.stop(vm("Halted"), vmi("Running", 30), {"gracePeriod": 0})) == ["Stop"]


def test_restart() -> None:
    assert actions(vm("Always"), requests.restart(vm("Always"), vmi("Running"), {})) == ["Stop", "Start"]
    for strategy in ("Halted", "Once"):
        with pytest.raises(Refusal, match="does not support manual restart requests"):
            requests.restart(vm(strategy), vmi("Running"), {})
    with pytest.raises(Refusal, match="VM is not running: Halted"):
        requests.restart(vm("Always"), None, {})
    with pytest.raises(Refusal, match="only gracePeriod=0") as caught:
        requests.restart(vm("Always"), vmi("Running"), {"gracePeriodSeconds": 5})
    assert caught.value.code == 400
