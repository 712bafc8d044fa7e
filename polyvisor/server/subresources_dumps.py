"""``memorydump`` and ``removememorydump``: a request in the machine's status, which the VM controller sees through."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from polyvisor.api.dumps import DumpPhase, dump_size
from polyvisor.api.quantity import whole
from polyvisor.api.reading import nested, read_status
from polyvisor.api.resources import PVCS, VMS
from polyvisor.api.volumes import claims_of
from polyvisor.drivers import DriverRegistry
from polyvisor.kube.client import KubeClient
from polyvisor.kube.errors import ApiError
from polyvisor.server import requests
from polyvisor.server.errors import Refusal, answering, conflict, not_found
from polyvisor.server.subresources_gate import check
from polyvisor.server.subresources_machines import Machines, body_of, require_running

Obj = dict[str, Any]
CLAIM = "persistentvolumeclaim"


class Dumps:
    """The handlers."""

    def __init__(self, client: KubeClient, machines: Machines, drivers: DriverRegistry) -> None:
        self._client = client
        self._machines = machines
        self._drivers = drivers

    def routes(self, vm: str) -> list[BaseRoute]:
        """Return the routes below that of a VirtualMachine."""
        handlers = {"memorydump": self._add, "removememorydump": self._remove}
        return [Route(f"{vm}/{name}", answering(handler), methods=["PUT"]) for name, handler in handlers.items()]

    async def _add(self, request: Request) -> Response:
        body = await body_of(request)
        if not isinstance(body.get("claimName", ""), str):
            raise Refusal(400, f"claimName: found {body['claimName']!r}, the name of a PersistentVolumeClaim is wanted")
        vm = await self._vm(request)
        name, before = vm["metadata"]["name"], read_status(vm).get("memoryDumpRequest") or {}
        claim = body.get("claimName") or before.get("claimName")
        if not claim:
            raise Refusal(400, "Memory dump requires claim name to be set")
        if before and claim != before["claimName"]:
            why = f"can't request memory dump for pvc [{claim}] while pvc [{before['claimName']}] is still associated"
            raise conflict(requests.VM, name, f"{why} as the memory dump pvc")
        if before.get("phase") == DumpPhase.DISSOCIATING:
            why = f"can't dump memory for pvc [{claim}] a remove memory dump request is in progress"
            raise conflict(requests.VM, name, why)
        if before and before.get("phase") not in (DumpPhase.COMPLETED, DumpPhase.FAILED):
            raise conflict(requests.VM, name, f"memory dump request for pvc [{claim}] already in progress")
        vmi = await self._machines.existing(vm["metadata"]["namespace"], name)
        require_running(vmi)
        check(self._drivers, vmi, "memorydump")
        await self._fits(vm, vmi, claim)
        return await self._ask(vm, {"claimName": claim, "phase": str(DumpPhase.ASSOCIATING)})

    async def _remove(self, request: Request) -> Response:
        vm = await self._vm(request)
        name, before = vm["metadata"]["name"], read_status(vm).get("memoryDumpRequest")
        if not before:
            why = f"can't remove memory dump association for vm {name}, no association found"
            raise conflict(requests.VM, name, why)
        claim = before["claimName"]
        if before.get("remove"):
            raise conflict(requests.VM, name, f"memory dump remove request for pvc [{claim}] already exists")
        return await self._ask(vm, {"claimName": claim, "phase": str(DumpPhase.DISSOCIATING), "remove": True})

    async def _vm(self, request: Request) -> Obj:
        return await self._machines.vm(request.path_params["namespace"], request.path_params["name"])

    async def _fits(self, vm: Obj, vmi: Obj, claim: str) -> None:
        """Refuse a claim that is missing, of another kind, too small, or a disk of the machine."""
        try:
            found = await self._client.get(PVCS, claim, vm["metadata"]["namespace"])
        except ApiError as error:
            raise (not_found(CLAIM, claim) if error.not_found else error) from error
        spec = found["spec"]
        wanted, size = dump_size(vmi), whole(nested(spec, "resources", "requests").get("storage", 0))
        used = {*claims_of(vmi["spec"]), *claims_of(vm["spec"]["template"]["spec"])}
        names = {one["name"] for one in vmi["spec"].get("volumes") or [] if "memoryDump" not in one}
        if spec.get("volumeMode") == "Block":
            raise conflict(CLAIM, claim, "pvc should be filesystem pvc")
        if set(spec.get("accessModes") or []) == {"ReadOnlyMany"}:
            raise conflict(CLAIM, claim, "pvc access mode can't be read only")
        if size < wanted:
            raise conflict(CLAIM, claim, f"pvc size [{size}] should be bigger then [{wanted}]")
        if claim in used | names:
            raise conflict(CLAIM, claim, "a volume of the machine has that claim or that name already")

    async def _ask(self, vm: Obj, wanted: Obj) -> Response:
        metadata, status = vm["metadata"], {**read_status(vm), "memoryDumpRequest": wanted}
        patch = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
            {"op": "add", "path": "/status", "value": status},
        ]
        try:
            await self._client.patch(
                VMS, metadata["name"], patch, metadata["namespace"], patch_type="json", subresource="status"
            )
        except ApiError as error:
            if error.conflict or "test" in error.message:
                why = "the object was changed by others at the same time; try again"
                raise conflict(requests.VM, metadata["name"], why) from error
            raise
        return Response(status_code=202)
