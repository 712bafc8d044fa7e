"""In which states of a machine its streams are refused, with KubeVirt's codes, as its clients act on them.

They try again on 400 while a machine starts, and give up on 409: so 409 is kept for what waiting does not change.
"""

from __future__ import annotations

from typing import Any

from polyvisor.api.names import Phase, VmiCondition
from polyvisor.api.reading import read_status
from polyvisor.server import requests
from polyvisor.server.errors import Refusal, conflict
from polyvisor.server.subresources_machines import VMI, VMI_NOT_RUNNING, devices, is_true

Obj = dict[str, Any]


def may_stream(vmi: Obj, action: str) -> None:
    """Refuse a stream, named as its subresource, that the machine's spec or state excludes."""
    name, phase = vmi["metadata"]["name"], requests.phase(vmi)
    if action == "console":
        if devices(vmi).get("autoattachSerialConsole") is False:
            raise Refusal(400, "No serial consoles are present.")
        if phase == Phase.FAILED:
            raise conflict(VMI, name, "VMI is in failed status")
    elif action in ("vnc", "vnc/screenshot"):
        if devices(vmi).get("autoattachGraphicsDevice") is False:
            raise Refusal(400, "No graphics devices are present.")
    elif action == "usbredir":
        if devices(vmi).get("clientPassthrough") is None:
            why = "Not configured with USB Redirection: spec.domain.devices.clientPassthrough is missing, add {}"
            raise conflict(VMI, name, why)
    elif is_true(vmi, VmiCondition.PAUSED):
        raise conflict(VMI, name, "VMI is paused")
    if phase != Phase.RUNNING:
        raise Refusal(400, VMI_NOT_RUNNING)
    if action == "portforward" and not read_status(vmi).get("interfaces"):
        raise Refusal(400, "no network interfaces are present")
