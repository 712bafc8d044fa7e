"""``subresources.kubevirt.io``: what KubeVirt's clients do to machines beyond changing objects.

A VM's start, stop and restart are decided by :mod:`polyvisor.server.requests` and become patches; all that concerns a
running instance goes to its node, once the table of its driver allows it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from polyvisor.admission.context import Lookup
from polyvisor.admission.instancetypes import expand, expanded_machine, infer
from polyvisor.admission.values import Findings
from polyvisor.api import Problem, VirtualMachine
from polyvisor.api.checking import check
from polyvisor.api.names import DEFAULT_GRACE_PERIOD_SECONDS
from polyvisor.api.resources import PODS, SUBRESOURCES_GROUP, VMIS, VMS
from polyvisor.drivers import DriverRegistry, registry
from polyvisor.kube.client import KubeClient
from polyvisor.kube.errors import ApiError
from polyvisor.kube.lookups import resolve
from polyvisor.server import log_options, requests, subresources_discovery, subresources_refused
from polyvisor.server.errors import Refusal, answering, conflict
from polyvisor.server.node import NodeSide
from polyvisor.server.subresources_dumps import Dumps
from polyvisor.server.subresources_instances import Instances
from polyvisor.server.subresources_machines import Machines, body_of, is_dry
from polyvisor.server.subresources_migrations import Migrations
from polyvisor.server.subresources_streams import Streams
from polyvisor.server.subresources_volumes import Volumes

Obj = dict[str, Any]


class Subresources:
    """The routes, over a client of the API server and the node side."""

    def __init__(self, client: KubeClient, node: NodeSide, drivers: DriverRegistry | None = None) -> None:
        self._client = client
        self._node = node
        drivers = registry() if drivers is None else drivers
        self._machines = Machines(client)
        self._instances = Instances(self._machines, node, drivers)
        self._streams = Streams(self._machines, node, drivers)
        self._volumes = Volumes(client, self._machines, drivers)
        self._dumps = Dumps(client, self._machines, drivers)
        self._migrations = Migrations(client, self._machines)

    def routes(self) -> list[BaseRoute]:
        """Return the routes, to be mounted into the API server's application, behind its authentication."""
        found = subresources_discovery.routes()
        for version in subresources_discovery.VERSIONS:
            found += self._versioned(f"/apis/{SUBRESOURCES_GROUP}/{version}")
        return found

    def pod_logs(self) -> list[BaseRoute]:
        """Return the route of launchers' logs, for an API server without kubelets, behind its authentication.

        In a cluster the API server has that path itself; here it would be open to whoever reaches the port.
        """
        return [Route("/api/v1/namespaces/{namespace}/pods/{name}/log", answering(self._log), methods=["GET"])]

    def _versioned(self, group_version: str) -> list[BaseRoute]:
        base = f"{group_version}/namespaces/{{namespace}}"
        vm = f"{base}/virtualmachines/{{name}}"
        vmi = f"{base}/virtualmachineinstances/{{name}}"
        actions = self._instances.handlers()
        return [
            Route(f"{base}/{subresources_discovery.EXPAND_GIVEN}", answering(self._expand_given), methods=["PUT"]),
            Route(f"{vm}/expand-spec", answering(self._expand), methods=["GET"]),
            Route(f"{vm}/start", answering(self._start), methods=["PUT"]),
            Route(f"{vm}/stop", answering(self._stop), methods=["PUT"]),
            Route(f"{vm}/restart", answering(self._restart), methods=["PUT"]),
            *(Route(f"{vmi}/{name}", answering(do), methods=[method]) for name, (method, do) in actions.items()),
            *self._streams.routes(vm, vmi),
            *subresources_refused.routes(group_version, vm, vmi),
            *self._volumes.routes(vm, vmi),
            *self._dumps.routes(vm),
            *self._migrations.routes(vm, vmi),
        ]

    async def _start(self, request: Request) -> Response:
        body = await body_of(request)
        vm, vmi = await self._both(request)
        return await self._decided(vm, requests.start(vm, vmi, body), body)

    async def _stop(self, request: Request) -> Response:
        body = await body_of(request)
        grace = body.get("gracePeriod")
        if grace is not None and grace < 0:
            raise Refusal(400, "gracePeriod has to be greater or equal to 0")
        vm, vmi = await self._both(request)
        decision = requests.stop(vm, vmi, body)
        if vmi is not None and not requests.is_final(vmi) and grace is not None and not is_dry(body):
            await self._set_grace_period(vmi, grace)
        return await self._decided(vm, decision, body)

    async def _restart(self, request: Request) -> Response:
        body = await body_of(request)
        vm, vmi = await self._both(request)
        answer = await self._decided(vm, requests.restart(vm, vmi, body), body)
        if body.get("gracePeriodSeconds") == 0 and vmi is not None and not is_dry(body):
            await self._set_grace_period(vmi, 0)
            for pod in await self._client.list(PODS, vm["metadata"]["namespace"]):
                owners = pod["metadata"].get("ownerReferences") or []
                if any(owner.get("uid") == vmi["metadata"]["uid"] for owner in owners):
                    with suppress(ApiError):
                        await self._client.delete(
                            PODS, pod["metadata"]["name"], pod["metadata"]["namespace"], grace_period_seconds=1
                        )
        return answer

    async def _set_grace_period(self, vmi: Obj, grace: int) -> None:
        path = "/spec/terminationGracePeriodSeconds"
        old = vmi["spec"].get("terminationGracePeriodSeconds", DEFAULT_GRACE_PERIOD_SECONDS)
        if grace != old:
            await self._client.patch(
                VMIS,
                vmi["metadata"]["name"],
                [{"op": "add", "path": path, "value": grace}],
                vmi["metadata"]["namespace"],
                patch_type="json",
            )

    async def _decided(self, vm: Obj, decision: requests.Decision, body: Obj) -> Response:
        meta = vm["metadata"]
        guard = {"op": "test", "path": "/metadata/uid", "value": meta["uid"]}
        try:
            await self._client.patch(
                VMS,
                meta["name"],
                [guard, *decision.patch],
                meta["namespace"],
                patch_type="json",
                subresource="status" if decision.status else None,
                dry_run=is_dry(body),
            )
        except ApiError as error:
            if error.code in (409, 422) and "test" in error.message:
                raise conflict(requests.VM, meta["name"], error.message) from error
            raise
        return Response(status_code=202)

    async def _expand(self, request: Request) -> Response:
        vm = await self._machines.vm(request.path_params["namespace"], _name(request))
        return JSONResponse(await self._expanded(vm, vm.get("status")))

    async def _expand_given(self, request: Request) -> Response:
        vm = await body_of(request)
        problems = check(VirtualMachine, vm)
        if not vm or problems:
            raise Refusal(400, "Object is not a valid VirtualMachine", _causes(problems))
        vm["metadata"] = {**(vm.get("metadata") or {}), "namespace": request.path_params["namespace"]}
        return JSONResponse(await self._expanded(vm, None))

    async def _expanded(self, vm: Obj, status: Obj | None) -> Obj:
        """Return a VM with what it takes from instance type and preference written out."""

        def decide(lookup: Lookup) -> tuple[Obj, Findings]:
            found, whole = Findings(), copy.deepcopy(vm)
            expansion = expand(whole, status, lookup, found) if infer(whole, lookup, found) else None
            return expanded_machine(whole, expansion) if expansion else vm, found

        expanded, found = await resolve(self._client, decide)
        if found.problems:
            listed = "; ".join(str(problem) for problem in found.problems)
            raise Refusal(400, f"the VirtualMachine cannot be expanded: {listed}", _causes(found.problems))
        return expanded

    async def _log(self, request: Request) -> Response:
        name, namespace = request.path_params["name"], request.path_params["namespace"]
        pod = await self._client.get(PODS, name, namespace)
        asked = log_options.parse(request.query_params)
        chunks = self._node.read_log(pod, asked.container, follow=asked.follow, tail=asked.tail)
        chunks = log_options.limited(chunks, asked.limit)
        first = await anext(chunks, b"")

        async def content() -> Any:
            yield first
            async for chunk in chunks:
                yield chunk

        return StreamingResponse(content(), media_type="text/plain")

    async def _both(self, request: Request) -> tuple[Obj, Obj | None]:
        name, namespace = _name(request), request.path_params["namespace"]
        return await self._machines.vm(namespace, name), await self._machines.vmi(namespace, name)


def _name(request: Request) -> str:
    return str(request.path_params["name"])


def _causes(problems: Sequence[Problem]) -> Obj:
    return {"causes": [{"reason": p.reason, "field": p.field, "message": p.message} for p in problems]}
