"""What is done to a running instance and what its guest is asked: pause, softreboot, freeze, guestosinfo, ...

The order of refusals is one for all: no such machine, a driver that never can, a state in which it cannot be done now.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from polyvisor.api.names import Phase, VmiCondition
from polyvisor.api.reading import nested
from polyvisor.api.resources import SUBRESOURCES_GROUP
from polyvisor.drivers import DriverRegistry
from polyvisor.server import requests
from polyvisor.server.errors import Refusal, conflict
from polyvisor.server.node import NodeSide
from polyvisor.server.subresources_gate import check
from polyvisor.server.subresources_machines import (
    VMI,
    VMI_NOT_RUNNING,
    Machines,
    body_of,
    is_dry,
    is_true,
    require_running,
    seconds,
)

Obj = dict[str, Any]
Handler = Callable[[Request], Awaitable[Response]]
NO_AGENT = "VMI does not have guest agent connected"
KINDS = {
    "guestosinfo": "VirtualMachineInstanceGuestAgentInfo",
    "userlist": "VirtualMachineInstanceGuestOSUserList",
    "filesystemlist": "VirtualMachineInstanceFileSystemList",
}
CHANGES = ("pause", "unpause", "softreboot", "reset", "freeze", "unfreeze")


class Instances:
    """The handlers."""

    def __init__(self, machines: Machines, node: NodeSide, drivers: DriverRegistry) -> None:
        self._machines = machines
        self._node = node
        self._drivers = drivers

    def handlers(self) -> dict[str, tuple[str, Handler]]:
        """Return subresource -> method and handler."""
        return {name: ("PUT", self._changing(name)) for name in CHANGES} | {
            name: ("GET", self._asking(name)) for name in KINDS
        }

    def _changing(self, action: str) -> Handler:
        async def change(request: Request) -> Response:
            body = await body_of(request)
            vmi = await self._machine(request, action)
            arguments = {"timeout": seconds(body.get("unfreezeTimeout"))} if action == "freeze" else {}
            if not is_dry(body):
                await self._node.ask(vmi, action, **arguments)
            return Response(status_code=200)

        return change

    def _asking(self, action: str) -> Handler:
        async def ask(request: Request) -> Response:
            vmi = await self._machine(request, action)
            answer = await self._node.ask(vmi, action)
            return JSONResponse({"kind": KINDS[action], "apiVersion": f"{SUBRESOURCES_GROUP}/v1", **answer})

        return ask

    async def _machine(self, request: Request, action: str) -> Obj:
        vmi = await self._machines.existing(request.path_params["namespace"], request.path_params["name"])
        check(self._drivers, vmi, action)
        allowed(vmi, action)
        return vmi


def allowed(vmi: Obj, action: str) -> None:
    """Refuse what the machine's state does not allow now, in KubeVirt's words."""
    name = vmi["metadata"]["name"]
    if action == "reset" and requests.phase(vmi) != Phase.RUNNING:
        raise Refusal(400, f"Failed to reset non-running VMI with phase {requests.phase(vmi) or 'unset'}")
    require_running(vmi, requests.NOT_RUNNING if action in ("pause", "freeze", "softreboot") else VMI_NOT_RUNNING)
    paused = is_true(vmi, VmiCondition.PAUSED)
    connected = is_true(vmi, VmiCondition.AGENT_CONNECTED)
    if action == "pause":
        probe = vmi["spec"].get("livenessProbe")
        if probe is not None and probe.get("guestAgentPing") is None:
            raise Refusal(
                403,
                f'virtualmachineinstance.kubevirt.io "{name}" is forbidden: '
                "Pausing VMIs with a non-GuestAgentPing LivenessProbe is not supported",
            )
        if paused:
            raise conflict(VMI, name, "VMI is already paused")
    elif action == "unpause":
        if not paused:
            raise conflict(VMI, name, "VMI is not paused")
    elif action == "softreboot":
        if paused:
            raise conflict(VMI, name, "VMI is paused")
        if not connected and not _acpi(vmi):
            raise conflict(VMI, name, "VMI neither have the agent connected nor the ACPI feature enabled")
    elif action != "reset" and not connected:
        raise conflict(VMI, name, NO_AGENT)


def _acpi(vmi: Obj) -> bool:
    features = nested(vmi["spec"], "domain").get("features") or {}
    return nested(features, "acpi").get("enabled") is not False
