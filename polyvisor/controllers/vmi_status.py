"""What the VMI controller writes into a machine's status, as functions from what is seen to what is written.

The controller owns the status until the machine is handed over to its node (phase Scheduled), or the node's agent takes
it over; from then on it only ends a machine whose Pod is gone. The agent's fields are kept as they are.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from polyvisor.api import names
from polyvisor.api.names import CandidateVerdict, ConditionStatus, Phase, PodPhase, Reason, VmiCondition
from polyvisor.api.reading import chosen_hypervisor, nested, read_status
from polyvisor.controllers.launcher_pod import driver_of
from polyvisor.controllers.objects import (
    condition,
    deleting,
    drop_condition,
    moment,
    set_condition,
    set_phase,
    stamp,
    uid,
)

if TYPE_CHECKING:
    from polyvisor.api import Obj
    from polyvisor.placement import Placement

WAITING = frozenset(
    {
        Reason.NO_DRIVER,
        Reason.FAILED_CREATE,
        Reason.FAILED_PVC_NOT_FOUND,
        Reason.FAILED_DATA_VOLUME_IMPORT,
        Reason.NOT_ALL_DVS_READY,
        Reason.NOT_ALL_DVS_BOUND,
        Reason.BACKEND_STORAGE,
        Reason.ERR_IMAGE_PULL,
        Reason.IMAGE_PULL_BACK_OFF,
    }
)
"""Reasons of Synchronized=False that the VMI controller sets, and takes away when they no longer hold."""
VOLUMES = frozenset({Reason.FAILED_DATA_VOLUME_IMPORT, Reason.NOT_ALL_DVS_READY, Reason.NOT_ALL_DVS_BOUND})
"""Those of them that tell of DataVolumes."""
WAITING_FOR = {
    "ErrImagePull": Reason.ERR_IMAGE_PULL,
    "ErrImageNeverPull": Reason.ERR_IMAGE_PULL,
    "ImageInspectError": Reason.ERR_IMAGE_PULL,
    "InvalidImageName": Reason.ERR_IMAGE_PULL,
    "RegistryUnavailable": Reason.ERR_IMAGE_PULL,
    "SignatureValidationFailed": Reason.ERR_IMAGE_PULL,
    "ImagePullBackOff": Reason.IMAGE_PULL_BACK_OFF,
    "CreateContainerConfigError": Reason.FAILED_CREATE,
    "CreateContainerError": Reason.FAILED_CREATE,
    "RunContainerError": Reason.FAILED_CREATE,
}
"""What a kubelet says of a container that does not start -> the reason on the machine."""
FITS = {names.UNPAUSED_GATE: "NotPaused", names.READY_GATE: "Ready"}
"""The reasons of the readiness gates' conditions while nothing is amiss."""
NOT_RUNNING = "Guest VM is not reported as running"


def pending(vmi: Obj, at: datetime) -> None:
    """Enter the phase Pending, in place."""
    status = vmi.setdefault("status", {})
    set_phase(status, Phase.PENDING, at)
    set_condition(status, VmiCondition.READY, ConditionStatus.FALSE, Reason.GUEST_NOT_RUNNING, NOT_RUNNING, at=at)


def held_up(vmi: Obj, reason: Reason, message: str, at: datetime, placement: Placement | None = None) -> None:
    """Say, in place, why the machine has to wait in Pending."""
    pending(vmi, at)
    status = vmi["status"]
    set_condition(status, VmiCondition.SYNCHRONIZED, ConditionStatus.FALSE, reason, message, at=at)
    if reason == Reason.FAILED_PVC_NOT_FOUND:  # as KubeVirt has it, although no Pod was made yet
        what = f"failed to render launch manifest: didn't find PVC {message.split()[1]}"
        set_condition(status, VmiCondition.POD_SCHEDULED, ConditionStatus.FALSE, Reason.UNSCHEDULABLE, what, at=at)
    else:
        drop_condition(status, VmiCondition.POD_SCHEDULED)
    if reason in VOLUMES:
        set_condition(status, VmiCondition.DATA_VOLUMES_READY, ConditionStatus.FALSE, reason, message, at=at)
    if placement is not None:
        status["hypervisor"] = placement.to_status()


def scheduling(vmi: Obj, pod: Obj, at: datetime, placement: Placement | None = None) -> None:
    """The Pod is there but not yet at work: phase Scheduling, its node, and what keeps the Pod waiting. In place."""
    status = vmi.setdefault("status", {})
    if not status.get("phase"):
        pending(vmi, at)
    if condition(vmi, VmiCondition.READY) is None:
        set_condition(status, VmiCondition.READY, ConditionStatus.FALSE, Reason.GUEST_NOT_RUNNING, NOT_RUNNING, at=at)
    if not status.get("phaseTransitionTimestamps"):  # admission has entered the phase, and has no clock
        since = stamp(moment(vmi["metadata"].get("creationTimestamp")) or at)
        status["phaseTransitionTimestamps"] = [{"phase": str(Phase.PENDING), "phaseTransitionTimestamp": since}]
    made = moment(pod["metadata"].get("creationTimestamp")) or at
    set_phase(status, Phase.SCHEDULING, min(made, at))  # the write may come later than the Pod
    _bound(vmi, pod)
    drop_condition(status, VmiCondition.SYNCHRONIZED, WAITING)
    if condition(vmi, VmiCondition.DATA_VOLUMES_READY) is not None:
        ready = "All of the VMI's DVs are bound and ready"
        set_condition(status, VmiCondition.DATA_VOLUMES_READY, ConditionStatus.TRUE, Reason.ALL_DVS_READY, ready, at=at)
    _hypervisor(status, pod, placement)
    scheduled = condition(pod, "PodScheduled")
    if scheduled is not None and scheduled.get("status") == ConditionStatus.FALSE:
        set_condition(
            status,
            VmiCondition.POD_SCHEDULED,
            ConditionStatus.FALSE,
            scheduled.get("reason") or "",
            scheduled.get("message") or "",
            at=at,
        )
    else:
        drop_condition(status, VmiCondition.POD_SCHEDULED)
    trouble = container_trouble(pod)
    if trouble is not None:
        reason, message = trouble
        set_condition(status, VmiCondition.SYNCHRONIZED, ConditionStatus.FALSE, reason, message, at=at)


def scheduled(vmi: Obj, pod: Obj, at: datetime, placement: Placement | None = None) -> None:
    """Hand the machine over to the agent of the Pod's node, in place."""
    scheduling(vmi, pod, at, placement)
    set_phase(vmi["status"], Phase.SCHEDULED, at)


def _bound(vmi: Obj, pod: Obj) -> None:
    """Tell the node's agent which Pod is the machine's, and on which node: it may take the machine over from then on.

    A Pod that has no node yet is recorded by its uid alone.
    """
    status, node = vmi["status"], nested(pod, "spec").get("nodeName") or ""
    active = status.get("activePods") or {}
    if uid(pod) not in active or node:
        status["activePods"] = {uid(pod): node}
    if node:
        status["nodeName"] = node
        status["qosClass"] = read_status(pod).get("qosClass") or status.get("qosClass") or "Burstable"
        status["launcherContainerImageVersion"] = pod["spec"]["containers"][0].get("image") or ""
        vmi["metadata"].setdefault("labels", {})[names.NODE_NAME_LABEL] = node


def ended(vmi: Obj, phase: Phase, reason: str, message: str, at: datetime) -> None:
    """End the machine without its agent, in place."""
    status = vmi.setdefault("status", {})
    set_phase(status, phase, at)
    set_condition(status, VmiCondition.READY, ConditionStatus.FALSE, reason, message, at=at)
    if phase == Phase.FAILED:
        status["reason"] = reason
        set_condition(status, VmiCondition.SYNCHRONIZED, ConditionStatus.FALSE, reason, message, at=at)


def terminating(vmi: Obj, at: datetime) -> None:
    """Say, in place, that the Pod of a machine that was handed over goes, unless it is known why nobody can tell."""
    if (condition(vmi, VmiCondition.READY) or {}).get("reason") not in names.NODE_TROUBLES:
        reason, message = Reason.POD_TERMINATING, "virt-launcher pod is terminating"
        set_condition(vmi["status"], VmiCondition.READY, ConditionStatus.FALSE, reason, message, at=at)


def gave_way(vmi: Obj, driver: str, message: str, at: datetime) -> None:
    """Go back to Pending, in place, because the Pod of ``driver`` finds no node."""
    status = vmi["status"]
    set_phase(status, Phase.PENDING, at)
    status.pop("activePods", None)
    drop_condition(status, VmiCondition.POD_SCHEDULED)
    hypervisor = status.setdefault("hypervisor", {})
    for field in ("driver", "virtType", "endpoint"):
        hypervisor.pop(field, None)
    candidates: list[Obj] = hypervisor.setdefault("candidates", [])
    if not any(_tried(one) == driver for one in candidates):
        name, _, endpoint = driver.partition("@")
        candidates.append({"driver": name, **({"endpoint": endpoint} if endpoint else {})})
    for candidate in candidates:
        if _tried(candidate) == driver:
            candidate["verdict"] = str(CandidateVerdict.UNSCHEDULABLE)
            candidate["reasons"] = [{"message": message}]


def unschedulable_drivers(vmi: Obj) -> dict[str, str]:
    """Return the drivers that this machine has already tried in vain, with the scheduler's words."""
    found = {}
    for candidate in chosen_hypervisor(vmi).get("candidates") or []:
        if candidate.get("verdict") == CandidateVerdict.UNSCHEDULABLE:
            reasons = candidate.get("reasons") or [{}]
            found[_tried(candidate)] = reasons[0].get("message") or ""
    return found


def _tried(candidate: Obj) -> str:
    """Return how a driver is called that was tried: with the endpoint, if that was chosen for the machine."""
    endpoint = candidate.get("endpoint")
    return f"{candidate.get('driver')}@{endpoint}" if endpoint else str(candidate.get("driver"))


def pod_is_final(pod: Obj) -> bool:
    """Whether all of the Pod's containers have ended for good."""
    return read_status(pod).get("phase") in (PodPhase.SUCCEEDED, PodPhase.FAILED)


def pod_lost(pod: Obj) -> str:
    """Return why a Pod that is not over will run no guest any more, in words; empty if it may."""
    if deleting(pod):
        return "the launcher Pod was deleted before the guest ran"
    for container in read_status(pod).get("containerStatuses") or []:
        if container.get("name") == names.COMPUTE_CONTAINER and "terminated" in (container.get("state") or {}):
            return f"the launcher ended before the guest ran: {pod_failure(pod)}"
    return ""


def pod_at_work(pod: Obj) -> bool:
    """Whether the launcher runs, so that the machine can be handed over to the node's agent."""
    status = pod.get("status") or {}
    if not nested(pod, "spec").get("nodeName") or status.get("phase") != PodPhase.RUNNING:
        return False
    for container in status.get("containerStatuses") or []:
        if container.get("name") == names.COMPUTE_CONTAINER:
            return "running" in (container.get("state") or {})
    return False


def pod_failure(pod: Obj) -> str:
    """Return, in words, why a Pod ended."""
    status = pod.get("status") or {}
    disrupted: Obj = next((c for c in status.get("conditions") or [] if c.get("type") == "DisruptionTarget"), {})
    parts = [status.get("message") or disrupted.get("message") or status.get("reason") or ""]
    for container in status.get("containerStatuses") or []:
        ended = nested(container, "state").get("terminated") or {}
        if ended.get("message") or ended.get("exitCode"):
            what = ended.get("message") or ended.get("reason") or "ended"
            parts.append(f"container {container.get('name')}: {what} (exit code {ended.get('exitCode', '?')})")
    return "; ".join(p for p in parts if p) or f"the Pod ended as {status.get('phase')}"


def container_trouble(pod: Obj) -> tuple[Reason, str] | None:
    """Return what keeps a container from starting: its image, or what the node makes of it."""
    status = pod.get("status") or {}
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = nested(container, "state").get("waiting") or {}
        reason = WAITING_FOR.get(str(waiting.get("reason")))
        if reason is not None:
            message = waiting.get("message") or f"{container.get('image')}: {waiting['reason']}"
            return reason, f"container {container.get('name')}: {message}"
    return None


def gate_conditions(vmi: Obj, pod: Obj, at: datetime) -> list[Obj]:
    """Return the Pod conditions of the readiness gates that have to be written."""
    paused = _is_true(vmi, VmiCondition.PAUSED)
    wanted = {
        names.UNPAUSED_GATE: ("Paused", "the virtual machine is paused") if paused else (),
        names.READY_GATE: () if _is_true(vmi, VmiCondition.READY) else ("NotReady", "the virtual machine is not ready"),
    }
    status: Obj = {}
    for gate in nested(pod, "spec").get("readinessGates") or []:
        type_ = gate.get("conditionType")
        if type_ not in wanted:
            continue
        value = ConditionStatus.FALSE if wanted[type_] else ConditionStatus.TRUE
        found = condition(pod, type_)
        if found is None or found.get("status") != value:
            set_condition(status, type_, value, *(wanted[type_] or (FITS[type_],)), at=at)
    written: list[Obj] = status.get("conditions") or []
    return written


def _is_true(obj: Obj, type_: str) -> bool:
    found = condition(obj, type_)
    return found is not None and found.get("status") == ConditionStatus.TRUE


def _hypervisor(status: Obj, pod: Obj, placement: Placement | None) -> None:
    driver, virt_type = driver_of(pod)
    decided = (placement.driver.name, placement.virt_type) if placement is not None and placement.driver else None
    if placement is not None and decided == (driver, virt_type):
        status["hypervisor"] = (status.get("hypervisor") or {}) | placement.to_status()
        return
    hypervisor = status.setdefault("hypervisor", {})
    hypervisor.setdefault("driver", driver)
    hypervisor.setdefault("virtType", virt_type)
