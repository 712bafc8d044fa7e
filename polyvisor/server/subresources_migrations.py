"""``migrate`` and ``evacuate/cancel``: what a user asks for by a verb becomes an object, or a field is taken back."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from polyvisor.api.migrations import USER_PREFIX
from polyvisor.api.reading import read_status
from polyvisor.api.resources import MIGRATIONS, VMIS
from polyvisor.kube.client import KubeClient
from polyvisor.server import requests
from polyvisor.server.errors import Refusal, answering, conflict
from polyvisor.server.subresources_machines import Machines, Obj, body_of, is_dry

VM_NOT_RUNNING = "VM is not running"


class Migrations:
    """The routes."""

    def __init__(self, client: KubeClient, machines: Machines) -> None:
        self._client = client
        self._machines = machines

    def routes(self, vm: str, vmi: str) -> list[BaseRoute]:
        """Return the routes; ``vm`` and ``vmi`` are the paths of one machine."""
        return [
            Route(f"{vm}/migrate", answering(self._migrate), methods=["PUT"]),
            Route(f"{vm}/evacuate/cancel", answering(self._stay), methods=["PUT"]),
            Route(f"{vmi}/evacuate/cancel", answering(self._stay), methods=["PUT"]),
        ]

    async def _migrate(self, request: Request) -> Response:
        body = await body_of(request)
        name, namespace = request.path_params["name"], request.path_params["namespace"]
        selector = body.get("addedNodeSelector") or {}
        if not isinstance(selector, dict) or not all(isinstance(one, str) for one in selector.values()):
            raise Refusal(400, f"addedNodeSelector: found {str(selector)[:80]!r}; an object of labels is wanted")
        vmi = await self._machines.of_vm(namespace, name)
        if requests.phase(vmi) != "Running":
            raise conflict(requests.VM, name, VM_NOT_RUNNING)
        wanted: Obj = {
            "apiVersion": MIGRATIONS.api_version,
            "kind": MIGRATIONS.kind,
            "metadata": {"generateName": USER_PREFIX, "namespace": namespace},
            "spec": {"vmiName": name, **({"addedNodeSelector": selector} if selector else {})},
        }
        await self._client.create(MIGRATIONS, wanted, dry_run=is_dry(body))
        return Response(status_code=202)

    async def _stay(self, request: Request) -> Response:
        """Have an instance stay that was to leave its node, if that is still to begin."""
        body = await body_of(request)
        name, namespace = request.path_params["name"], request.path_params["namespace"]
        vmi = await self._machines.existing(namespace, name)
        if read_status(vmi).get("evacuationNodeName") and not is_dry(body):
            seen = {key: vmi["metadata"][key] for key in ("uid", "resourceVersion")}
            await self._client.patch(VMIS, name, {"metadata": seen, "status": {"evacuationNodeName": None}}, namespace)
        return Response(status_code=200)
