"""What the agent writes into the status of machines and of their Pods, as functions from values to values."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from polyvisor.agent.guests.guestinfo import merged
from polyvisor.agent.link.launcher_messages import State
from polyvisor.agent.live.movable import Blocker, copied
from polyvisor.agent.network import multus
from polyvisor.agent.network.plan import Card, reachable
from polyvisor.api import Obj, conditions
from polyvisor.api.conditions import drop_condition as drop_condition
from polyvisor.api.conditions import has_condition as has_condition
from polyvisor.api.migrations import BLOCK, LIVE
from polyvisor.api.names import COMPUTE_CONTAINER, FINAL_PHASES, NODE_TROUBLES, Phase, Reason, VmiCondition
from polyvisor.api.reading import nested
from polyvisor.api.times import moment, stamp
from polyvisor.drivers.base import Driver

MAX_MESSAGE = 1024
MAX_INTERFACES = 32


def seconds_of(text: str) -> float:
    """Return a Kubernetes time as seconds since the epoch; raises ValueError for anything else."""
    found = moment(text)
    if found is None:
        raise ValueError(f"{text!r} is not a time in RFC 3339")
    return found.timestamp()


def set_condition(status: Obj, type_: str, value: str, reason: str = "", message: str = "") -> None:
    """Set one condition, with a message of bounded length; its transition time changes only when its value does."""
    conditions.set_condition(status, type_, value, reason, message[:MAX_MESSAGE], at=stamp())


def set_phase(status: Obj, phase: Phase) -> None:
    """Move to a phase and note when."""
    if status.get("phase") == phase:
        return
    status["phase"] = str(phase)
    stamps = status.setdefault("phaseTransitionTimestamps", [])
    stamps.append({"phase": str(phase), "phaseTransitionTimestamp": stamp()})


def take_over(status: Obj) -> None:
    """Move a machine that the controller has not handed over yet to the phase in which it is the agent's."""
    if status.get("phase") == Phase.SCHEDULING:
        set_phase(status, Phase.SCHEDULED)


def running(
    vmi: Obj,
    state: State,
    hello: Mapping[str, Any],
    driver: Driver,
    found: Mapping[str, Any],
    not_ready: str = "",
    blockers: Sequence[Blocker] | None = None,
) -> Obj:
    """Return the status of a machine whose domain exists.

    ``found`` is what was read off it, empty if nothing was; ``not_ready`` is why its probe has it that it is not ready;
    ``blockers`` are what keeps it on its node, None if that was not looked at.
    """
    status: Obj = copy.deepcopy(vmi.get("status") or {})
    take_over(status)
    set_phase(status, Phase.RUNNING)
    drop_condition(status, VmiCondition.SYNCHRONIZED)
    if state["state"] == "paused" and state.get("reason") != "starting":
        set_condition(status, VmiCondition.PAUSED, "True", Reason.PAUSED_BY_USER, "VMI was paused by user")
        set_condition(
            status, VmiCondition.READY, "False", Reason.GUEST_NOT_RUNNING, "Guest VM is not reported as running"
        )
    else:
        drop_condition(status, VmiCondition.PAUSED)
        if not_ready:
            set_condition(status, VmiCondition.READY, "False", Reason.NOT_READY, not_ready)
        else:
            set_condition(status, VmiCondition.READY, "True")
    hypervisor = status.setdefault("hypervisor", {})
    for key, value in (("version", hello.get("hypervisorVersion")), ("libvirtVersion", hello.get("libvirtVersion"))):
        if value:
            hypervisor[key] = str(value)[:64]
    if blockers is not None:
        _movable(status, blockers)
        status["migrationMethod"] = BLOCK if copied(vmi) else LIVE
        status["migrationTransport"] = "Unix"
    if hypervisor.get("virtType") in driver.emulated_virt_types:
        message = (
            "the CPU is emulated in software, because the node offers nothing better and the configuration allows it"
        )
        set_condition(status, VmiCondition.SOFTWARE_EMULATION, "True", Reason.SOFTWARE_EMULATION, message)
    status["interfaces"] = _interfaces(vmi, status, found.get("interfaces") or [])
    for field in ("volumeStatus", "machine"):
        if field in found:  # even if it is empty: the last volume may have gone
            status[field] = found[field]
    return status


def _movable(status: Obj, blockers: Sequence[Blocker]) -> None:
    """Write whether a machine can be moved, and whether its disks alone would let it; all reasons in one message."""
    for type_, relevant in (
        (VmiCondition.LIVE_MIGRATABLE, blockers),
        (VmiCondition.STORAGE_LIVE_MIGRATABLE, [one for one in blockers if not one.storage]),
    ):
        if relevant:
            message = "; ".join(one.message for one in relevant)
            set_condition(status, type_, "False", relevant[0].reason, message)
        else:
            set_condition(status, type_, "True")


def hypervisor_gone(status: Obj, message: str) -> None:
    """Say that a running machine could not be started here again; take it back if ``message`` is empty."""
    if not message:
        drop_condition(status, VmiCondition.HYPERVISOR_AVAILABLE)
        return
    message += "; the guest goes on, and cannot be started here again"
    set_condition(status, VmiCondition.HYPERVISOR_AVAILABLE, "False", Reason.HYPERVISOR_GONE, message)


def keep_trouble(old: Obj, new: Obj) -> None:
    """Leave a Ready=False of virt-controller's alone, in place: of a node in trouble, or of a Pod that goes."""
    found: Obj = next((c for c in old.get("conditions") or [] if c.get("type") == VmiCondition.READY), {})
    if found.get("reason") in {*NODE_TROUBLES, Reason.POD_TERMINATING} and new.get("phase") not in FINAL_PHASES:
        new["conditions"] = [
            found if condition["type"] == VmiCondition.READY else condition for condition in new.get("conditions") or []
        ]


def _interfaces(vmi: Obj, status: Obj, read: list[Obj]) -> list[Obj]:
    devices = nested(vmi["spec"], "domain").get("devices") or {}
    known = {entry.get("name"): entry for entry in status.get("interfaces") or []}
    for entry in read:
        known[entry["name"]] = {**known.get(entry["name"], {}), **entry}
    found = []
    for interface in (devices.get("interfaces") or [])[:MAX_INTERFACES]:
        entry = {**known.get(interface["name"], {}), "name": interface["name"], "infoSource": "domain"}
        if mac := interface.get("macAddress"):
            entry["mac"] = mac
        entry.setdefault("linkState", "down" if interface.get("state") == "down" else "up")
        found.append(entry)
    return found


def access(status: Obj, outcome: tuple[bool, str] | None) -> None:
    """Write whether the access credentials are in the guest; what is not known stays as it was said last."""
    if outcome is None:
        return
    good, message = outcome
    set_condition(status, VmiCondition.ACCESS_CREDENTIALS, "True" if good else "False", message=message)


def networked(status: Obj, cards: Iterable[Card], pod: Obj, addresses: list[str]) -> None:
    """Write what a running machine's cards are joined to, and by which of its Pod's addresses others reach them."""
    entries = {entry.get("name"): entry for entry in status.get("interfaces") or []}
    finished = multus.told(pod)
    for card in cards:
        entry = entries.get(card.name)
        if entry is None:
            continue
        entry |= {"mac": card.mac, "podInterfaceName": card.outer, "queueCount": card.queues}
        if card.multus and (finished is None or card.outer in finished):
            entry["infoSource"] = "domain, multus-status"
        if found := reachable(card, addresses):
            entry |= {"ipAddress": found[0], "ipAddresses": found}


def guest(status: Obj, vmi: Obj, connected: bool, said: Obj) -> None:
    """Write what the agent inside the guest says into a running machine's status."""
    if not connected:
        drop_condition(status, VmiCondition.AGENT_CONNECTED)
        drop_condition(status, VmiCondition.AGENT_VERSION_NOT_SUPPORTED)
        status.pop("fsFreezeStatus", None)
        return
    set_condition(status, VmiCondition.AGENT_CONNECTED, "True")
    if lacking := said.get("unsupported"):
        why, commands = lacking
        message = f"missing: {', '.join(commands)}; install a newer agent in the guest, or enable these commands there"
        set_condition(status, VmiCondition.AGENT_VERSION_NOT_SUPPORTED, "True", why, message)
    else:
        drop_condition(status, VmiCondition.AGENT_VERSION_NOT_SUPPORTED)
    if said.get("os"):
        status["guestOSInfo"] = said["os"]
    if said.get("freeze") == "frozen":
        status["fsFreezeStatus"] = "frozen"
    else:
        status.pop("fsFreezeStatus", None)
    status["interfaces"] = merged(vmi, status.get("interfaces") or [], said.get("interfaces") or [])


def ended(vmi: Obj, state: State, driver: Driver) -> tuple[Obj, str]:
    """Return the status of a machine whose domain is over, and what to say about it.

    As with KubeVirt, a machine that had to be destroyed although it could have been shut down has failed.
    """
    status: Obj = copy.deepcopy(vmi.get("status") or {})
    reason = state.get("reason")
    acpi = nested(vmi["spec"], "domain", "features").get("acpi") or {}
    graceful = driver.graceful_shutdown and acpi.get("enabled") is not False
    if reason == "shutdown" or (reason == "destroyed" and not graceful):
        phase, message = Phase.SUCCEEDED, "The VirtualMachineInstance was shut down."
    elif reason == "crashed" or state.get("state") == "crashed":
        phase, message = Phase.FAILED, "The VirtualMachineInstance crashed."
    elif reason == "destroyed":
        phase, message = Phase.FAILED, "The VirtualMachineInstance was destroyed."
    else:
        phase, message = Phase.FAILED, "The VirtualMachineInstance ended in a way that is not known."
    finish(status, phase)
    return status, message


def finish(status: Obj, phase: Phase, reason: str = "", message: str = "") -> None:
    """Move to a final phase."""
    if status.get("phase") not in FINAL_PHASES:
        set_phase(status, phase)
    set_condition(status, VmiCondition.READY, "False", Reason.GUEST_NOT_RUNNING, "Guest VM is not reported as running")
    drop_condition(status, VmiCondition.PAUSED)
    if reason:
        status["reason"] = reason
        set_condition(status, VmiCondition.SYNCHRONIZED, "False", reason, message)


def pod_status(
    pod: Obj,
    *,
    phase: str,
    address: str,
    container_state: Obj,
    restarts: int = 0,
    started_at: str | None = None,
) -> Obj:
    """Return a launcher Pod's status as a kubelet would write it."""
    old: Obj = pod.get("status") or {}
    status: Obj = copy.deepcopy(old)
    ready = phase == "Running" and "running" in container_state
    names: Iterable[Obj] = pod["spec"].get("containers") or []
    status["phase"] = phase
    status["hostIP"] = status["podIP"] = address
    status["hostIPs"] = status["podIPs"] = [{"ip": address}]
    status["startTime"] = old.get("startTime") or started_at or stamp()
    status["containerStatuses"] = [
        {
            "name": container["name"],
            "image": container.get("image", ""),
            "imageID": "",
            "ready": ready,
            "started": ready,
            "restartCount": restarts if container["name"] == COMPUTE_CONTAINER else 0,
            "state": container_state,
            "lastState": {},
        }
        for container in names
    ]
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates") or []]
    waiting = [gate for gate in gates if not has_condition(old, gate)]
    why = "" if ready else "PodCompleted" if phase in FINAL_PHASES else "ContainersNotReady"
    set_condition(status, "PodScheduled", "True")
    set_condition(status, "Initialized", "True")
    set_condition(status, "ContainersReady", "True" if ready else "False", why)
    if ready and waiting:
        set_condition(status, "Ready", "False", "ReadinessGatesNotReady", f"not yet: {', '.join(waiting)}")
    else:
        set_condition(status, "Ready", "True" if ready else "False", why)
    return status


def pod_ended(pod: Obj, phase: str, address: str) -> Obj:
    """Return the status of a launcher Pod whose machine has ended in a phase."""
    code = 0 if phase == Phase.SUCCEEDED else 1
    ended: Obj = {"exitCode": code, "reason": "Completed" if code == 0 else "Error", "finishedAt": stamp()}
    if started := (pod.get("status") or {}).get("startTime"):
        ended["startedAt"] = started
    return pod_status(pod, phase=phase, address=address, container_state={"terminated": ended})


def pod_refused(pod: Obj, message: str, address: str) -> Obj:
    """Return the status of a Pod that cannot run on its Node, and why."""
    ended = {"exitCode": 1, "reason": "Unsupported", "message": message, "finishedAt": stamp()}
    status = pod_status(pod, phase=Phase.FAILED, address=address, container_state={"terminated": ended})
    return {**status, "reason": "Unsupported", "message": message}
