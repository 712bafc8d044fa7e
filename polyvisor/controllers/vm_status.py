"""A VirtualMachine's status, computed from the machine and its instance. Pure.

``printable`` is an ordered list of questions, as in KubeVirt: the first that is answered with yes names the status.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from polyvisor.api.migrations import is_moving, state_of
from polyvisor.api.names import (
    FINAL_PHASES,
    ConditionStatus,
    Phase,
    PrintableStatus,
    Reason,
    RunStrategy,
    VmCondition,
    VmiCondition,
)
from polyvisor.api.reading import read_status
from polyvisor.controllers import live_cpus, memory_dump, template
from polyvisor.controllers.objects import condition, condition_is, deleting, phase_of, set_condition
from polyvisor.controllers.vm_decide import (
    Step,
    decide,
    reached_running,
    remaining_requests,
    run_strategy,
    start_failure,
    wants_stop,
)

if TYPE_CHECKING:
    from polyvisor.api import Obj

Question = Callable[["Obj", "Obj | None"], bool]
OWN_CONDITIONS = frozenset({VmCondition.FAILURE, VmCondition.RESTART_REQUIRED, VmCondition.MANUAL_RECOVERY_REQUIRED})
"""Conditions that are the machine's own; all others come from the instance."""
DERIVED_CONDITIONS = frozenset({VmCondition.FAILURE, VmCondition.RESTART_REQUIRED})
"""Those of them that are worked out anew each time."""
TIMES = frozenset({"lastProbeTime", "lastTransitionTime"})
TEMPLATE_CHANGED = "a non-live-updatable field was changed in the template spec"
"""KubeVirt's words, which clients look for."""


LAST_FAILED = "the last instance failed: "
"""What the message of the condition Failure begins with if it is the instance that failed."""
MAX_MESSAGE = 1024


def instance_failure(vmi: Obj | None) -> tuple[str, str] | None:
    """Return the reason and the words for which an instance failed that nobody is deleting yet, None if it did not."""
    if vmi is None or deleting(vmi) or phase_of(vmi) != Phase.FAILED:
        return None
    told = condition(vmi, VmiCondition.SYNCHRONIZED) or {}
    if told.get("status") == ConditionStatus.FALSE and told.get("message"):
        return str(told.get("reason") or Reason.FAILED), LAST_FAILED + str(told["message"])[:MAX_MESSAGE]
    reason = str(read_status(vmi).get("reason") or Reason.FAILED)
    return reason, f"{LAST_FAILED}the guest crashed or was destroyed"


def _kept_failure(before: list[Obj], vmi: Obj | None) -> tuple[str, str] | None:
    """Return the last instance's failure as it was told, until an instance runs again."""
    if vmi is not None and reached_running(vmi):
        return None
    told: Obj = next((c for c in before if c.get("type") == VmCondition.FAILURE), {})
    message = str(told.get("message") or "")
    return (str(told.get("reason") or Reason.FAILED), message) if message.startswith(LAST_FAILED) else None


def compute(
    vm: Obj,
    vmi: Obj | None,
    failure: tuple[str, str] | None,
    at: datetime,
    *,
    settled: bool = True,
    ended: tuple[str, str] | None = None,
    snapshots: list[Obj] | None = None,
) -> Obj:
    """Return the whole status. ``snapshots`` says which volumes can be snapshotted; without it, what was told stays.

    ``failure`` is the reason and message of a step that went wrong, ``ended`` of an instance that failed; ``settled``
    tells that the run strategy's step was taken, so that it counts as the one the machine has run under.
    """
    status: Obj = copy.deepcopy(vm.get("status") or {})
    with_requests = vm | {"status": status}
    failed_start = start_failure(vm, vmi, at)
    _put(status, "startFailure", failed_start)
    _put(status, "stateChangeRequests", remaining_requests(with_requests, vmi) or None)
    _put(status, "created", vmi is not None or None)
    _put(status, "ready", (vmi is not None and condition_is(vmi, VmiCondition.READY)) or None)
    if settled:
        status["runStrategy"] = str(run_strategy(vm))
    _put(status, "observedGeneration", template.observed_generation(vm, vmi) or None)
    _put(status, "desiredGeneration", vm["metadata"].get("generation"))
    if snapshots is not None:
        _put(status, "volumeSnapshotStatuses", snapshots or None)
    _put(status, "memoryDumpRequest", memory_dump.following(vm, vmi))
    failure = failure or ended or instance_failure(vmi) or _kept_failure(status.get("conditions") or [], vmi)
    status["conditions"] = _conditions(vm, vmi, failure, at)
    status["printableStatus"] = str(printable(vm | {"status": status}, vmi, at))
    return status


def printable(vm: Obj, vmi: Obj | None, at: datetime) -> PrintableStatus:
    """Return the machine's state in one word."""
    if decide(vm, vmi, at).step is Step.START and not deleting(vm):
        return PrintableStatus.STARTING
    return next((word for word, question in _QUESTIONS if question(vm, vmi)), PrintableStatus.UNKNOWN)


def start_expected(vm: Obj) -> bool:
    """Whether the run strategy by itself brings the machine up (again)."""
    return run_strategy(vm) in (RunStrategy.ALWAYS, RunStrategy.RERUN_ON_FAILURE, RunStrategy.ONCE)


def _put(status: Obj, field: str, value: object) -> None:
    if value is None:
        status.pop(field, None)
    else:
        status[field] = value


def _conditions(vm: Obj, vmi: Obj | None, failure: tuple[str, str] | None, at: datetime) -> list[Obj]:
    before = read_status(vm).get("conditions") or []
    own = [c for c in before if c.get("type") in OWN_CONDITIONS and c.get("type") not in DERIVED_CONDITIONS]
    copied = copy.deepcopy(read_status(vmi).get("conditions") or []) if vmi is not None else []
    holder: Obj = {"conditions": [c for c in copied if c.get("type") not in OWN_CONDITIONS]}
    if not any(c.get("type") == VmCondition.READY for c in copied):
        old = [c for c in before if c.get("type") == VmCondition.READY]
        holder["conditions"] += old
        if vmi is None:
            reason, message = Reason.VMI_NOT_EXISTS, "VMI does not exist"
        else:
            reason, message = Reason.GUEST_NOT_RUNNING, "Guest VM is not reported as running"
        set_condition(holder, VmCondition.READY, ConditionStatus.FALSE, reason, message, at=at)
    holder["conditions"] += own
    if failure is not None:
        holder["conditions"] += [c for c in before if c.get("type") == VmCondition.FAILURE]
        set_condition(holder, VmCondition.FAILURE, ConditionStatus.TRUE, *failure, at=at)
    if template.changed(vm, vmi):
        holder["conditions"] += [c for c in before if c.get("type") == VmCondition.RESTART_REQUIRED]
        why = live_cpus.why_restart(vm, vmi) or TEMPLATE_CHANGED
        set_condition(holder, VmCondition.RESTART_REQUIRED, ConditionStatus.TRUE, "", why, at=at)
    return [_steady(found, before) for found in holder["conditions"]]


def _steady(found: Obj, before: list[Obj]) -> Obj:
    """Return a condition as it was, if nothing but its times has changed: they alone are no reason to write."""
    return next((old for old in before if _timeless(old) == _timeless(found)), found)


def _timeless(found: Obj) -> Obj:
    return {key: value for key, value in found.items() if key not in TIMES}


def _alive(vmi: Obj | None) -> bool:
    return vmi is not None and phase_of(vmi) not in FINAL_PHASES


def _terminating(vm: Obj, vmi: Obj | None) -> bool:
    return deleting(vm)


def _stopping(vm: Obj, vmi: Obj | None) -> bool:
    return vmi is not None and _alive(vmi) and (deleting(vmi) or wants_stop(vm, vmi))


def _migrating(_vm: Obj, vmi: Obj | None) -> bool:
    return vmi is not None and is_moving(vmi) and bool(state_of(vmi).get("startTimestamp"))


def _paused(vm: Obj, vmi: Obj | None) -> bool:
    return vmi is not None and _alive(vmi) and condition_is(vmi, VmiCondition.PAUSED)


def _running(vm: Obj, vmi: Obj | None) -> bool:
    return vmi is not None and phase_of(vmi) == Phase.RUNNING


def _synchronized_is(reason: Reason) -> Question:
    def question(vm: Obj, vmi: Obj | None) -> bool:
        found = condition(vmi, VmiCondition.SYNCHRONIZED) if vmi is not None and _alive(vmi) else None
        return found is not None and found.get("status") == ConditionStatus.FALSE and found.get("reason") == reason

    return question


def _unschedulable(vm: Obj, vmi: Obj | None) -> bool:
    found = condition(vmi, VmiCondition.POD_SCHEDULED) if vmi is not None and _alive(vmi) else None
    waiting = found is not None and found.get("status") == ConditionStatus.FALSE
    return waiting and found is not None and found.get("reason") == Reason.UNSCHEDULABLE


def _provisioning(vm: Obj, vmi: Obj | None) -> bool:
    return vmi is not None and _alive(vmi) and condition_is(vmi, VmiCondition.PROVISIONING)


def _crash_loop(vm: Obj, vmi: Obj | None) -> bool:
    failure = read_status(vm).get("startFailure") or {}
    return not _alive(vmi) and start_expected(vm) and bool(failure.get("consecutiveFailCount"))


_QUESTIONS: tuple[tuple[PrintableStatus, Question], ...] = (
    (PrintableStatus.TERMINATING, _terminating),
    (PrintableStatus.STOPPING, _stopping),
    (PrintableStatus.MIGRATING, _migrating),
    (PrintableStatus.PAUSED, _paused),
    (PrintableStatus.RUNNING, _running),
    (PrintableStatus.ERROR_PVC_NOT_FOUND, _synchronized_is(Reason.FAILED_PVC_NOT_FOUND)),
    (PrintableStatus.DATA_VOLUME_ERROR, _synchronized_is(Reason.FAILED_DATA_VOLUME_IMPORT)),
    (PrintableStatus.WAITING_FOR_VOLUME_BINDING, _synchronized_is(Reason.NOT_ALL_DVS_BOUND)),
    (PrintableStatus.PROVISIONING, _synchronized_is(Reason.NOT_ALL_DVS_READY)),
    (PrintableStatus.ERROR_UNSCHEDULABLE, _unschedulable),
    (PrintableStatus.ERROR_UNSCHEDULABLE, _synchronized_is(Reason.NO_DRIVER)),
    (PrintableStatus.PROVISIONING, _provisioning),
    (PrintableStatus.ERR_IMAGE_PULL, _synchronized_is(Reason.ERR_IMAGE_PULL)),
    (PrintableStatus.IMAGE_PULL_BACK_OFF, _synchronized_is(Reason.IMAGE_PULL_BACK_OFF)),
    (PrintableStatus.STARTING, lambda vm, vmi: _alive(vmi)),
    (PrintableStatus.CRASH_LOOP_BACK_OFF, _crash_loop),
    (PrintableStatus.STOPPED, lambda vm, vmi: not _alive(vmi)),
)
