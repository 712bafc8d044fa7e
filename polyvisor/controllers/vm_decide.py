"""What a VirtualMachine's run strategy asks for, given its instance: a function from what is seen to one step.

The rules are KubeVirt's. Only the first of ``status.stateChangeRequests`` is looked at; it is taken away when it is
fulfilled, and then the next one counts. A machine that fails before it ever ran is started again after a growing pause.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from polyvisor.api.names import FINAL_PHASES, Phase, RunStrategy, StateChangeAction
from polyvisor.api.reading import read_status
from polyvisor.controllers.objects import deleting, moment, phase_of, stamp, uid

if TYPE_CHECKING:
    from polyvisor.api import Obj

FIRST_DELAY = 10
LONGEST_DELAY = 300
RESTARTING = frozenset({RunStrategy.ALWAYS, RunStrategy.RERUN_ON_FAILURE, RunStrategy.ONCE})


class Step(StrEnum):
    """What to do with the instance now."""

    NONE = "none"
    START = "start"
    STOP = "stop"
    STOP_THEN_START = "stop-then-start"
    """Delete the instance and remember, in a start request, that it has to come back."""
    SWITCH_ON = "switch-on"
    """Change the run strategy to Always: a halted machine was asked to start."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One step, and the seconds after which to look again if nothing happens before."""

    step: Step
    again: float | None = None


def run_strategy(vm: Obj) -> RunStrategy:
    """Return the strategy that ``runStrategy`` or the older ``running`` asks for."""
    spec = vm.get("spec") or {}
    if spec.get("runStrategy"):
        return RunStrategy(spec["runStrategy"])
    return RunStrategy.ALWAYS if spec.get("running") else RunStrategy.HALTED


def first_request(vm: Obj) -> Obj | None:
    """Return the state change request that counts."""
    requests = read_status(vm).get("stateChangeRequests") or []
    return dict(requests[0]) if requests else None


def wants_start(vm: Obj) -> bool:
    """Whether a start was asked for."""
    request = first_request(vm)
    return request is not None and request.get("action") == StateChangeAction.START


def wants_stop(vm: Obj, vmi: Obj) -> bool:
    """Whether a stop of this very instance was asked for."""
    request = first_request(vm)
    return request is not None and request.get("action") == StateChangeAction.STOP and request.get("uid") == uid(vmi)


def decide(vm: Obj, vmi: Obj | None, at: datetime) -> Decision:
    """Return the next step for a machine that is not being deleted."""
    strategy = run_strategy(vm)
    if vmi is None:
        return _without_instance(vm, strategy, at)
    if deleting(vmi):
        return Decision(Step.NONE)
    phase = phase_of(vmi)
    stop = wants_stop(vm, vmi)
    match strategy:
        case RunStrategy.ALWAYS:
            step = Step.STOP if stop or phase in FINAL_PHASES else Step.NONE
        case RunStrategy.RERUN_ON_FAILURE if phase == Phase.FAILED and not stop:
            step = Step.STOP_THEN_START
        case RunStrategy.RERUN_ON_FAILURE:
            step = Step.STOP if stop or phase == Phase.SUCCEEDED else Step.NONE
        case RunStrategy.MANUAL:
            step = Step.STOP if stop or (phase in FINAL_PHASES and wants_start(vm)) else Step.NONE
        case RunStrategy.ONCE:
            step = Step.STOP if stop else Step.NONE
        case RunStrategy.HALTED:
            step = Step.STOP
        case _:
            step = Step.NONE
    return Decision(step)


def _outdated_start(vm: Obj) -> bool:
    """Whether the start that is asked for belongs to a restart, after which the machine was stopped.

    A halted machine is asked to start in this way only where it is to start paused; else its strategy is changed.
    """
    data = (first_request(vm) or {}).get("data") or {}
    return wants_start(vm) and run_strategy(vm) == RunStrategy.HALTED and data.get("paused") != "true"


def _without_instance(vm: Obj, strategy: RunStrategy, at: datetime) -> Decision:
    asked = wants_start(vm)
    if read_status(vm).get("restoreInProgress"):
        return Decision(Step.NONE)  # its claims are being replaced
    if strategy == RunStrategy.HALTED:
        return Decision(Step.SWITCH_ON if asked and not _outdated_start(vm) else Step.NONE)
    if strategy == RunStrategy.MANUAL:
        return Decision(Step.START if asked else Step.NONE)
    if strategy == RunStrategy.WAIT_AS_RECEIVER:
        return Decision(Step.NONE)
    had_its_run = read_status(vm).get("runStrategy") == strategy
    if strategy in (RunStrategy.RERUN_ON_FAILURE, RunStrategy.ONCE) and had_its_run and not asked:
        return Decision(Step.NONE)
    left = backoff_left(vm, at)
    return Decision(Step.NONE, left) if left > 0 else Decision(Step.START)


def remaining_requests(vm: Obj, vmi: Obj | None) -> list[Obj]:
    """Return the state change requests without a first one that is fulfilled."""
    requests: list[Obj] = list(read_status(vm).get("stateChangeRequests") or [])
    if not requests:
        return requests
    if requests[0].get("action") == StateChangeAction.STOP:
        done = vmi is None or requests[0].get("uid") != uid(vmi)
    else:
        done = vmi is not None and not deleting(vmi) and phase_of(vmi) not in FINAL_PHASES
        done = done or (vmi is None and _outdated_start(vm))
    return requests[1:] if done else requests


def reached_running(vmi: Obj) -> bool:
    """Whether the instance ever ran."""
    passed = read_status(vmi).get("phaseTransitionTimestamps") or []
    return phase_of(vmi) == Phase.RUNNING or any(entry.get("phase") == Phase.RUNNING for entry in passed)


def start_failure(vm: Obj, vmi: Obj | None, at: datetime) -> Obj | None:
    """Return what ``status.startFailure`` has to be."""
    before: Obj | None = read_status(vm).get("startFailure")
    if run_strategy(vm) not in RESTARTING or (vmi is not None and reached_running(vmi)):
        return None
    if vmi is None or phase_of(vmi) not in FINAL_PHASES or (before or {}).get("lastFailedVMIUID") == uid(vmi):
        return before
    count = int((before or {}).get("consecutiveFailCount") or 0) + 1
    return {
        "consecutiveFailCount": count,
        "lastFailedVMIUID": uid(vmi),
        "retryAfterTimestamp": stamp(at + timedelta(seconds=restart_delay(count))),
    }


def restart_delay(failures: int) -> int:
    """Return the pause before the next start after so many failures in a row: 10 s, 20 s, 40 s, ... 5 min."""
    return int(min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(max(failures - 1, 0), 16)))


def backoff_left(vm: Obj, at: datetime) -> float:
    """Return the seconds until the machine may be started again."""
    failure = read_status(vm).get("startFailure") or {}
    until = moment(failure.get("retryAfterTimestamp"))
    return max(0.0, (until - at).total_seconds()) if until else 0.0
