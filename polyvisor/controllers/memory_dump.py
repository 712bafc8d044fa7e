"""A VirtualMachine's ``status.memoryDumpRequest``: what is to be done for it, and how far it is. KubeVirt's phases.

A dump is asked for by a ``memoryDump`` volume, which bears its claim's name: it joins template and instance, the node's
agent dumps, and the instance loses it again. The template keeps it until the claim is given up, as KubeVirt's does; an
instance that is made later goes without, unless the dump is still to come.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from polyvisor.api.dumps import CLAIM_ANNOTATION, DumpPhase, DumpVolumePhase
from polyvisor.api.names import FINAL_PHASES, Phase
from polyvisor.api.reading import annotations_of, read_status
from polyvisor.api.resources import PVCS, VMIS, VMS
from polyvisor.controllers.objects import deleting, phase_of
from polyvisor.kube import ApiError, KubeClient

if TYPE_CHECKING:
    from polyvisor.api import Obj

FAILED = "Memory dump failed"
"""What the claim's annotation says of a dump that came to nothing; KubeVirt's words."""
STOPPED = "the machine stopped before its memory was dumped"
SETTLED = (DumpVolumePhase.COMPLETED, DumpVolumePhase.FAILED)
OVER = (DumpPhase.UNMOUNTING, DumpPhase.COMPLETED, DumpPhase.FAILED, DumpPhase.DISSOCIATING)


def request_of(vm: Obj) -> Obj | None:
    """Return the machine's request."""
    request: Obj | None = read_status(vm).get("memoryDumpRequest")
    return request


def following(vm: Obj, vmi: Obj | None) -> Obj | None:
    """Return what the machine's request has become by what is seen. Pure."""
    before = request_of(vm)
    if before is None:
        return None
    request, claim = copy.deepcopy(before), before["claimName"]
    told = _told(vmi, claim)
    here, in_template = _has(_spec(vmi), claim), _has(vm["spec"]["template"].get("spec"), claim)
    match request.get("phase"):
        case DumpPhase.ASSOCIATING if here and in_template and told.get("phase") not in SETTLED:
            request["phase"] = str(DumpPhase.IN_PROGRESS)
        case DumpPhase.IN_PROGRESS if not _running(vmi):
            request |= {"phase": str(DumpPhase.FAILED), "message": STOPPED}
        case DumpPhase.IN_PROGRESS:
            _follow(request, told)
        case DumpPhase.UNMOUNTING if not told:
            request["phase"] = str(DumpPhase.COMPLETED)
        case DumpPhase.DISSOCIATING if not told and not here and not in_template:
            return None
    return request


def of_new_instance(vm: Obj, spec: Obj) -> None:
    """Take the volume of a dump that is over out of the spec of an instance to be made. In place."""
    request = request_of(vm)
    if request is not None and request.get("phase") in OVER and _has(spec, request["claimName"]):
        spec["volumes"] = _without(spec, request["claimName"])


async def carry_out(client: KubeClient, vm: Obj, vmi: Obj | None) -> tuple[Obj, Obj | None]:
    """Do what the request's phase asks for; return the machine and its instance as they are then."""
    request = request_of(vm)
    if request is None or deleting(vm):
        return vm, vmi
    claim, phase = request["claimName"], request.get("phase")
    if phase == DumpPhase.ASSOCIATING and _running(vmi):
        if _told(vmi, claim).get("phase") in SETTLED:  # the one before has to leave first
            return vm, await _put(client, vmi, claim, there=False)
        return await _template(client, vm, claim, there=True), await _put(client, vmi, claim, there=True)
    if phase in (DumpPhase.UNMOUNTING, DumpPhase.FAILED):
        await _annotate(client, vm["metadata"]["namespace"], claim, str(request.get("fileName") or FAILED))
        return vm, await _put(client, vmi, claim, there=False)
    if phase == DumpPhase.DISSOCIATING:
        return await _template(client, vm, claim, there=False), await _put(client, vmi, claim, there=False)
    return vm, vmi


def _follow(request: Obj, told: Obj) -> None:
    info = told.get("memoryDumpVolume") or {}
    if info.get("startTimestamp"):
        request["startTimestamp"] = info["startTimestamp"]
    if told.get("phase") in SETTLED:
        request["endTimestamp"] = info.get("endTimestamp")
    if told.get("phase") == DumpVolumePhase.COMPLETED:
        request |= {"phase": str(DumpPhase.UNMOUNTING), "fileName": info.get("targetFileName")}
    elif told.get("phase") == DumpVolumePhase.FAILED:
        request |= {"phase": str(DumpPhase.FAILED), "message": str(told.get("message") or FAILED)}


def _running(vmi: Obj | None) -> bool:
    return vmi is not None and not deleting(vmi) and phase_of(vmi) == Phase.RUNNING


def _spec(vmi: Obj | None) -> Obj | None:
    return vmi["spec"] if vmi is not None and phase_of(vmi) not in FINAL_PHASES else None


def _told(vmi: Obj | None, claim: str) -> Obj:
    """Return what an instance that lives tells of the volume."""
    entries = ((vmi or {}).get("status") or {}).get("volumeStatus") or [] if _spec(vmi) else []
    return next((entry for entry in entries if entry["name"] == claim), {})


def _has(spec: Obj | None, claim: str) -> bool:
    return any(volume["name"] == claim for volume in (spec or {}).get("volumes") or [])


def _without(spec: Obj, claim: str) -> list[Obj]:
    return [one for one in spec.get("volumes") or [] if one["name"] != claim or "memoryDump" not in one]


def _changed(spec: Obj, claim: str, there: bool) -> bool:
    if _has(spec, claim) == there:
        return False
    before = list(spec.get("volumes") or [])
    volume = {"name": claim, "memoryDump": {"claimName": claim, "hotpluggable": True}}
    spec["volumes"] = [*before, volume] if there else _without(spec, claim)
    return bool(spec["volumes"] != before)


async def _template(client: KubeClient, vm: Obj, claim: str, *, there: bool) -> Obj:
    changed = copy.deepcopy(vm)
    if not _changed(changed["spec"]["template"]["spec"], claim, there):
        return vm
    return await client.update(VMS, changed)


async def _put(client: KubeClient, vmi: Obj | None, claim: str, *, there: bool) -> Obj | None:
    if vmi is None or deleting(vmi) or _spec(vmi) is None:
        return vmi
    changed = copy.deepcopy(vmi)
    return await client.update(VMIS, changed) if _changed(changed["spec"], claim, there) else vmi


async def _annotate(client: KubeClient, namespace: str, claim: str, text: str) -> None:
    try:
        found = await client.get(PVCS, claim, namespace)
        if annotations_of(found).get(CLAIM_ANNOTATION) != text:
            change = {"metadata": {"annotations": {CLAIM_ANNOTATION: text}}}
            await client.patch(PVCS, claim, change, namespace)
    except ApiError as error:
        if not error.not_found:
            raise
