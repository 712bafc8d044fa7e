"""Finding the machine that a request names, and reading a request's body."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request

from polyvisor.api.durations import seconds_of
from polyvisor.api.reading import nested
from polyvisor.api.resources import VMIS, VMS
from polyvisor.kube.client import KubeClient
from polyvisor.kube.errors import ApiError
from polyvisor.server import requests
from polyvisor.server.errors import Refusal, conflict, from_api, not_found

Obj = dict[str, Any]
VMI = "virtualmachineinstance"
VMI_NOT_RUNNING = "VMI is not running"
NOT_STARTED = "VMI is not started"
MAX_BODY = 1024 * 1024


class Machines:
    """The machines of an API server, as requests name them."""

    def __init__(self, client: KubeClient) -> None:
        self.client = client

    async def vm(self, namespace: str, name: str) -> Obj:
        """Return a VirtualMachine."""
        try:
            return await self.client.get(VMS, name, namespace)
        except ApiError as error:
            raise (not_found(requests.VM, name) if error.not_found else from_api(error)) from error

    async def vmi(self, namespace: str, name: str) -> Obj | None:
        """Return a VirtualMachineInstance if there is one."""
        try:
            return await self.client.get(VMIS, name, namespace)
        except ApiError as error:
            if error.not_found:
                return None
            raise

    async def existing(self, namespace: str, name: str) -> Obj:
        """Return a VirtualMachineInstance that must be there."""
        vmi = await self.vmi(namespace, name)
        if vmi is None:
            raise not_found(VMI, name)
        return vmi

    async def of_vm(self, namespace: str, name: str) -> Obj:
        """Return the instance of a VirtualMachine, which must be there and have one."""
        await self.vm(namespace, name)
        vmi = await self.vmi(namespace, name)
        if vmi is None:
            raise conflict(requests.VM, name, NOT_STARTED)
        return vmi


def require_running(vmi: Obj, otherwise: str = VMI_NOT_RUNNING) -> None:
    """Refuse for a machine that does not run."""
    if requests.phase(vmi) != "Running":
        raise conflict(VMI, vmi["metadata"]["name"], otherwise)


def is_true(vmi: Obj, condition: str) -> bool:
    """Whether a condition holds."""
    return (requests.condition(vmi, condition) or {}).get("status") == "True"


def devices(vmi: Obj) -> Obj:
    """Return what the machine's spec says of devices."""
    return nested(vmi["spec"], "domain").get("devices") or {}


async def body_of(request: Request) -> Obj:
    """Return a request's body, which is an object or nothing."""
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_BODY:
            raise Refusal(413, "the request is too large")
    if not raw.strip():
        return {}
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"Can not unmarshal Request body to struct, error: {error}") from error
    if body is None:
        return {}
    if not isinstance(body, dict):
        raise Refusal(400, "Can not unmarshal Request body to struct, error: it is not an object")
    for field in ("gracePeriod", "gracePeriodSeconds"):
        value = body.get(field)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise Refusal(400, f"{field}: {value!r} is not a number of seconds")
    return body


def is_dry(body: Obj) -> bool:
    """Whether nothing shall be changed."""
    return "All" in (body.get("dryRun") or [])


def seconds(value: object) -> float:
    """Return a duration such as ``5m30s`` in seconds."""
    if value in (None, ""):
        return 0.0
    try:
        return seconds_of(value if isinstance(value, str) else str(value))
    except ValueError:
        what = f"{value!r} is not a duration such as 5m0s"
        raise Refusal(400, f"Can not unmarshal Request body to struct, error: {what}") from None
