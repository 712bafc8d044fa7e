"""What start, stop and restart of a virtual machine come to, by run strategy: pure functions from objects to a patch.

KubeVirt's rules. ``Always`` and ``Halted`` say in the spec whether the machine runs, so starting and stopping change
the spec. ``Manual`` and ``RerunOnFailure`` leave that to requests, which the VM controller finds in
``status.stateChangeRequests``. Each patch tests what it read, so that two requests at once cannot both win.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from polyvisor.api.names import FINAL_PHASES, RunStrategy
from polyvisor.api.reading import nested, read_status
from polyvisor.server.errors import Refusal, conflict

Obj = dict[str, Any]
Operation = dict[str, Any]
VM = "virtualmachine"
NOT_RUNNING = "VM is not running"


@dataclass(frozen=True, slots=True)
class Decision:
    """A JSON patch for the VM, to its status or to the object itself."""

    status: bool
    patch: list[Operation]


def run_strategy(vm: Obj) -> str:
    """Return the run strategy that applies (``running`` is its older form)."""
    spec = vm.get("spec") or {}
    if spec.get("runStrategy"):
        return str(spec["runStrategy"])
    return RunStrategy.ALWAYS if spec.get("running") else RunStrategy.HALTED


def phase(vmi: Obj | None) -> str:
    """Return a machine's phase, empty if it has none."""
    return str(((vmi or {}).get("status") or {}).get("phase") or "")


def condition(obj: Obj, kind: str) -> Obj | None:
    """Return a condition of an object."""
    conditions = read_status(obj).get("conditions") or []
    return next((c for c in conditions if c.get("type") == kind), None)


def is_final(vmi: Obj) -> bool:
    """Whether the machine is over."""
    return phase(vmi) in FINAL_PHASES


def start(vm: Obj, vmi: Obj | None, body: Obj) -> Decision:
    """Decide what a start request comes to."""
    name = vm["metadata"]["name"]
    if vmi is not None and not is_final(vmi) and phase(vmi) not in ("", "Unknown"):
        raise conflict(VM, name, "VM is already running")
    strategy = run_strategy(vm)
    request: Obj = {"action": "Start"}
    if body.get("paused"):
        request["data"] = {"paused": "true"}
    if strategy == RunStrategy.HALTED:
        if body.get("paused"):
            return Decision(True, _requests(vm, [request]))
        return Decision(False, _running(vm, True))
    if strategy in (RunStrategy.MANUAL, RunStrategy.RERUN_ON_FAILURE):
        if strategy == RunStrategy.RERUN_ON_FAILURE and phase(vmi) == "Failed":
            raise conflict(VM, name, f"{strategy} does not support starting VM from failed state")
        requests = [request]
        if vmi is not None and is_final(vmi):
            requests.insert(0, {"action": "Stop", "uid": vmi["metadata"]["uid"]})
        return Decision(True, _requests(vm, requests))
    raise conflict(VM, name, f"{strategy} does not support manual start requests")


def stop(vm: Obj, vmi: Obj | None, body: Obj) -> Decision:
    """Decide what a stop request comes to. A grace period is written to the VMI by the caller beforehand."""
    name = vm["metadata"]["name"]
    strategy = run_strategy(vm)
    if strategy in (RunStrategy.ALWAYS, RunStrategy.ONCE):
        return Decision(False, _running(vm, False))
    if vmi is None or is_final(vmi):
        raise conflict(VM, name, NOT_RUNNING)
    if strategy == RunStrategy.HALTED:
        old = nested(vmi, "spec").get("terminationGracePeriodSeconds")
        wanted = body.get("gracePeriod")
        if wanted is None or (old is not None and wanted >= old):
            raise conflict(VM, name, f"{strategy} only supports manual stop requests with a shorter graceperiod")
    return Decision(True, _requests(vm, [{"action": "Stop", "uid": vmi["metadata"]["uid"]}]))


def restart(vm: Obj, vmi: Obj | None, body: Obj) -> Decision:
    """Decide what a restart request comes to."""
    grace = body.get("gracePeriodSeconds")
    if grace is not None and grace > 0:
        raise Refusal(400, "For force restart, only gracePeriod=0 is supported for now")
    if grace is not None and grace < 0:
        raise Refusal(400, "gracePeriod has to be greater or equal to 0")
    name = vm["metadata"]["name"]
    strategy = run_strategy(vm)
    if strategy in (RunStrategy.HALTED, RunStrategy.ONCE):
        raise conflict(VM, name, f"RunStategy {strategy} does not support manual restart requests")
    if vmi is None:
        raise conflict(VM, name, f"{NOT_RUNNING}: {RunStrategy.HALTED}")
    return Decision(True, _requests(vm, [{"action": "Stop", "uid": vmi["metadata"]["uid"]}, {"action": "Start"}]))


def _running(vm: Obj, running: bool) -> list[Operation]:
    spec = vm.get("spec") or {}
    if spec.get("runStrategy") is not None:
        path, old = "/spec/runStrategy", spec["runStrategy"]
        new: Any = str(RunStrategy.ALWAYS if running else RunStrategy.HALTED)
    else:
        path, old, new = "/spec/running", spec.get("running"), running
    if old is None:
        return [{"op": "add", "path": path, "value": new}]
    return [{"op": "test", "path": path, "value": old}, {"op": "replace", "path": path, "value": new}]


def _requests(vm: Obj, requests: list[Obj]) -> list[Operation]:
    status = vm.get("status")
    path = "/status/stateChangeRequests"
    if not status:
        return [{"op": "add", "path": "/status", "value": {"stateChangeRequests": requests}}]
    patch: list[Operation] = []
    pending = status.get("stateChangeRequests")
    if pending:
        if not (len(requests) == 1 and requests[0]["action"] == "Stop"):
            name = vm["metadata"]["name"]
            raise conflict(VM, name, "unable to complete request: stop/start already underway")
        patch.append({"op": "test", "path": path, "value": pending})
    patch.append({"op": "add", "path": path, "value": requests})
    if status.get("startFailure") is not None:
        patch.append({"op": "remove", "path": "/status/startFailure"})
    return patch
