from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from polyvisor.controllers.objects import stamp
from polyvisor.controllers.vm_decide import Step, backoff_left, decide, remaining_requests, restart_delay, start_failure
from polyvisor.controllers.vm_status import compute, instance_failure, printable

Obj = dict[str, Any]
AT = datetime(2026, 1, 1, tzinfo=UTC)
START = {"action": "Start"}
PAUSED_START = {"action": "Start", "data": {"paused": "true"}}
STOP = {"action": "Stop", "uid": "i1"}
OTHER_STOP = {"action": "Stop", "uid": "old"}


def vm(strategy: str | None = None, *requests: Obj, running: bool | None = None, **status: Any) -> Obj:
    spec: Obj = {"template": {}}
    if strategy:
        spec["runStrategy"] = strategy
    if running is not None:
        spec["running"] = running
    if requests:
        status["stateChangeRequests"] = list(requests)
    return {"metadata": {"name": "m", "uid": "v1", "generation": 3}, "spec": spec, "status": status}


def vmi(phase: str = "Running", *conditions: Obj, deleting: bool = False, ran: bool = False, uid: str = "i1") -> Obj:
    metadata: Obj = {"name": "m", "uid": uid}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    passed = [{"phase": "Running"}] if ran else []
    return {
        "metadata": metadata,
        "status": {"phase": phase, "conditions": list(conditions), "phaseTransitionTimestamps": passed},
    }


def cond(type: str, status: str, reason: str = "") -> Obj:
    return {"type": type, "status": status, "reason": reason}


DECISIONS = [
    (vm("Always"), None, Step.START),
    (vm(running=True), None, Step.START),
    (vm("Always"), vmi(), Step.NONE),
    (vm("Always"), vmi("Failed"), Step.STOP),
    (vm("Always"), vmi("Succeeded"), Step.STOP),
    (vm("Always", STOP), vmi(), Step.STOP),
    (vm("Always", OTHER_STOP), vmi(), Step.NONE),
    (vm("Always"), vmi("Failed", deleting=True), Step.NONE),
    (vm("Halted"), None, Step.NONE),
    (vm(running=False), None, Step.NONE),
    (vm("Halted"), vmi(), Step.STOP),
    (vm("Halted"), vmi("Succeeded"), Step.STOP),
    (vm("Halted", PAUSED_START), None, Step.SWITCH_ON),
    (vm("Halted", START), None, Step.NONE),
    (vm("Manual"), None, Step.NONE),
    (vm("Manual", START), None, Step.START),
    (vm("Manual"), vmi(), Step.NONE),
    (vm("Manual"), vmi("Failed"), Step.NONE),
    (vm("Manual", STOP), vmi(), Step.STOP),
    (vm("Manual", STOP, START), vmi(), Step.STOP),
    (vm("Manual", STOP, START), None, Step.NONE),
    (vm("Manual", START), vmi("Succeeded"), Step.STOP),
    (vm("Manual", START), vmi(), Step.NONE),
    (vm("RerunOnFailure"), None, Step.START),
    (vm("RerunOnFailure", runStrategy="RerunOnFailure"), None, Step.NONE),
    (vm("RerunOnFailure", START, runStrategy="RerunOnFailure"), None, Step.START),
    (vm("RerunOnFailure", runStrategy="Halted"), None, Step.START),
    (vm("RerunOnFailure"), vmi("Failed"), Step.STOP_THEN_START),
    (vm("RerunOnFailure"), vmi("Succeeded"), Step.STOP),
    (vm("RerunOnFailure", STOP), vmi("Failed"), Step.STOP),
    (vm("RerunOnFailure", STOP), vmi(), Step.STOP),
    (vm("Once"), None, Step.START),
    (vm("Once"), vmi("Succeeded"), Step.NONE),
    (vm("Once"), vmi("Failed"), Step.NONE),
    (vm("Once", runStrategy="Once"), None, Step.NONE),
    (vm("WaitAsReceiver"), None, Step.NONE),
]


@pytest.mark.parametrize(("machine", "instance", "step"), DECISIONS)
def test_decision(machine: Obj, instance: Obj | None, step: Step) -> None:
    assert decide(machine, instance, AT).step is step


@pytest.mark.parametrize(
    ("requests", "instance", "left"),
    [
        ([STOP], None, []),
        ([STOP], vmi(), [STOP]),
        ([STOP], vmi(uid="i2"), []),
        ([STOP, START], None, [START]),
        ([START], vmi(), []),
        ([START], None, [START]),
        ([START], vmi("Succeeded"), [START]),
        ([START], vmi(deleting=True), [START]),
        ([], vmi(), []),
    ],
)
def test_a_fulfilled_request_is_taken_away(requests: list[Obj], instance: Obj | None, left: list[Obj]) -> None:
    assert remaining_requests(vm("Manual", *requests), instance) == left


def test_a_stop_during_a_restart_is_the_last_word() -> None:
    """Else the machine would be switched on again by what is left of the restart."""
    assert remaining_requests(vm("Halted", STOP, START), vmi(uid="i1")) == [STOP, START]
    assert remaining_requests(vm("Halted", STOP, START), None) == [START]
    assert remaining_requests(vm("Halted", START), None) == []
    assert remaining_requests(vm("Halted", PAUSED_START), None) == [PAUSED_START]


def test_pauses_grow_from_ten_seconds_to_five_minutes() -> None:
    assert [restart_delay(n) for n in (1, 2, 3, 4, 5, 6, 100)] == [10, 20, 40, 80, 160, 300, 300]


def test_an_instance_that_never_ran_is_counted_once_and_makes_the_next_wait() -> None:
    machine = vm("Always")
    first = start_failure(machine, vmi("Failed"), AT)
    assert first == {
        "consecutiveFailCount": 1,
        "lastFailedVMIUID": "i1",
        "retryAfterTimestamp": "2026-01-01T00:00:10Z",
    }
    machine["status"]["startFailure"] = first
    assert start_failure(machine, vmi("Failed"), AT) == first
    second = start_failure(machine, vmi("Failed", uid="i2"), AT)
    assert second is not None
    assert second["consecutiveFailCount"] == 2
    assert backoff_left(machine, AT) == 10
    found = decide(machine, None, AT)
    assert (found.step, found.again) == (Step.NONE, 10)
    assert start_failure(machine, vmi("Running", uid="i3"), AT) is None
    assert start_failure(machine, vmi("Failed", ran=True), AT) is None
    assert start_failure(vm("Halted", startFailure=first), None, AT) is None


FAILURE = {"consecutiveFailCount": 1, "lastFailedVMIUID": "i0", "retryAfterTimestamp": stamp(AT.replace(minute=1))}
DELETING = vm("Always")
DELETING["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
WORDS = [
    (vm("Halted"), None, "Stopped"),
    (vm("Manual"), vmi("Succeeded"), "Stopped"),
    (vm("Always"), None, "Starting"),
    (vm("Always"), vmi("Pending"), "Starting"),
    (vm("Always"), vmi("Scheduling"), "Starting"),
    (vm("Always"), vmi("Scheduled"), "Starting"),
    (vm("Always"), vmi("Running"), "Running"),
    (vm("Always"), vmi("Running", cond("Paused", "True")), "Paused"),
    (vm("Always"), vmi("Running", cond("Paused", "False")), "Running"),
    (vm("Always"), vmi("Running", deleting=True), "Stopping"),
    (vm("Manual", STOP), vmi("Running"), "Stopping"),
    (DELETING, vmi("Running"), "Terminating"),
    (DELETING, None, "Terminating"),
    (vm("Always", startFailure=FAILURE), None, "CrashLoopBackOff"),
    (vm("Always", startFailure=FAILURE), vmi("Failed"), "CrashLoopBackOff"),
    (vm("Always", startFailure=FAILURE), vmi("Scheduling"), "Starting"),
    (vm("Always"), vmi("Scheduling", cond("PodScheduled", "False", "Unschedulable")), "ErrorUnschedulable"),
    (vm("Always"), vmi("Pending", cond("Synchronized", "False", "NoDriver")), "ErrorUnschedulable"),
    (vm("Always"), vmi("Pending", cond("Synchronized", "False", "FailedPvcNotFound")), "ErrorPvcNotFound"),
    (vm("Always"), vmi("Pending", cond("Provisioning", "True")), "Provisioning"),
    (vm("Always"), vmi("Scheduling", cond("Synchronized", "False", "ErrImagePull")), "ErrImagePull"),
    (vm("Always"), vmi("Scheduling", cond("Synchronized", "False", "ImagePullBackOff")), "ImagePullBackOff"),
]


@pytest.mark.parametrize(("machine", "instance", "word"), WORDS)
def test_printable_status(machine: Obj, instance: Obj | None, word: str) -> None:
    assert printable(machine, instance, AT) == word


def test_computing_twice_changes_nothing() -> None:
    machine = vm("Always")
    instance = vmi("Running", cond("Ready", "True"), ran=True)
    machine["status"] = compute(machine, instance, None, AT)
    assert compute(machine, instance, None, AT.replace(hour=5)) == machine["status"]
    assert machine["status"]["ready"] is True
    assert machine["status"]["created"] is True
    assert machine["status"]["observedGeneration"] == 3
    machine["status"] = compute(machine, None, None, AT)
    assert "ready" not in machine["status"]
    assert compute(machine, None, None, AT.replace(hour=5)) == machine["status"]


def test_a_failure_is_a_condition_until_it_is_over() -> None:
    machine = vm("Always")
    machine["status"] = compute(machine, None, ("FailedCreate", "refused"), AT, settled=False)
    assert {c["type"]: c["status"] for c in machine["status"]["conditions"]} == {"Ready": "False", "Failure": "True"}
    assert "runStrategy" not in machine["status"]
    machine["status"] = compute(machine, vmi("Pending"), None, AT)
    assert [c["type"] for c in machine["status"]["conditions"]] == ["Ready"]


def test_a_condition_of_which_only_the_times_differ_is_no_change() -> None:
    machine = vm("Always")
    machine["status"] = compute(machine, vmi("Pending"), None, AT)
    (ready,) = machine["status"]["conditions"]
    later = vmi("Scheduling", ready | {"lastTransitionTime": "2026-01-01T05:00:00Z", "lastProbeTime": None})
    assert compute(machine, later, None, AT.replace(hour=5)) == machine["status"]
    changed = vmi("Running", ready | {"status": "True", "lastTransitionTime": "2026-01-01T06:00:00Z"})
    (after,) = compute(machine, changed, None, AT.replace(hour=6))["conditions"]
    assert after["lastTransitionTime"] == "2026-01-01T06:00:00Z"


def failed(uid: str = "i1", **more: Any) -> Obj:
    told = {"type": "Synchronized", "status": "False", "reason": "ErrImagePull", "message": "no such image: x"}
    return vmi("Failed", told, uid=uid, **more)


def told_failure(status: Obj) -> tuple[str, str] | None:
    found = next((c for c in status["conditions"] if c["type"] == "Failure"), None)
    return (found["reason"], found["message"]) if found else None


def test_the_last_instances_failure_outlives_it_until_one_runs() -> None:
    wanted = ("ErrImagePull", "the last instance failed: no such image: x")
    machine = vm("Always")
    machine["status"] = compute(machine, failed(deleting=True), None, AT, ended=wanted)
    for instance in (None, vmi("", uid="i2"), vmi("Scheduling", uid="i2"), None):
        assert told_failure(machine["status"]) == wanted
        machine["status"] = compute(machine, instance, None, AT)
    machine["status"] = compute(machine, vmi("Running", uid="i3"), None, AT)
    assert told_failure(machine["status"]) is None


def test_an_instance_that_is_deleted_on_purpose_has_not_failed() -> None:
    assert instance_failure(failed(deleting=True)) is None
    assert instance_failure(vmi("Succeeded")) is None
    assert instance_failure(vmi("Failed")) == ("Failed", "the last instance failed: the guest crashed or was destroyed")


def test_what_keeps_the_machine_from_starting_now_is_told_before_what_was() -> None:
    machine = vm("Always")
    machine["status"] = compute(machine, failed(), None, AT)
    machine["status"] = compute(machine, None, ("FailedCreate", "quota"), AT)
    assert told_failure(machine["status"]) == ("FailedCreate", "quota")
