"""``subresources.kubevirt.io/v1``: what KubeVirt's clients do to machines beyond changing objects.

A VM's start, stop and restart are decided by :mod:`polyvisor.server.requests` and become patches; pausing and the
console go to the node. A console that cannot be had is refused before the upgrade, with a ``Status``, as a client
that got a websocket could not tell a refusal from a guest that says nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from polyvisor import __version__
from polyvisor.api.names import DEFAULT_GRACE_PERIOD_SECONDS
from polyvisor.api.resources import PODS, SUBRESOURCES_GROUP, VMIS, VMS, Resource
from polyvisor.kube.client import KubeClient
from polyvisor.kube.errors import ApiError
from polyvisor.server import requests
from polyvisor.server.errors import Refusal, conflict, from_api, not_found
from polyvisor.server.node import ByteStream, NodeError, NodeSide

Obj = dict[str, Any]
Handler = Callable[[Request], Awaitable[Response]]
SUBPROTOCOL = "plain.kubevirt.io"
VERSION = "v1"
VMI = "virtualmachineinstance"
MAX_BODY = 1024 * 1024
ACTIONS = {
    "virtualmachines": {"start": "update", "stop": "update", "restart": "update"},
    "virtualmachineinstances": {"pause": "update", "unpause": "update", "console": "get"},
}


class Subresources:
    """The routes, over a client of the API server and the node side."""

    def __init__(self, client: KubeClient, node: NodeSide) -> None:
        self._client = client
        self._node = node

    def routes(self) -> list[BaseRoute]:
        """Return the routes, to be mounted into the API server's application, behind its authentication."""
        base = f"/apis/{SUBRESOURCES_GROUP}/{VERSION}"
        vm = f"{base}/namespaces/{{namespace}}/virtualmachines/{{name}}"
        vmi = f"{base}/namespaces/{{namespace}}/virtualmachineinstances/{{name}}"
        return [
            Route(f"/apis/{SUBRESOURCES_GROUP}", _group, methods=["GET"]),
            Route(base, _resources, methods=["GET"]),
            Route(f"{base}/version", _version, methods=["GET"]),
            Route(f"{base}/healthz", _healthy, methods=["GET"]),
            Route(f"{vm}/start", self._answering(self._start), methods=["PUT"]),
            Route(f"{vm}/stop", self._answering(self._stop), methods=["PUT"]),
            Route(f"{vm}/restart", self._answering(self._restart), methods=["PUT"]),
            Route(f"{vmi}/pause", self._answering(self._pause), methods=["PUT"]),
            Route(f"{vmi}/unpause", self._answering(self._unpause), methods=["PUT"]),
            WebSocketRoute(f"{vmi}/console", self._console),
            Route(f"{vmi}/console", self._answering(self._not_upgraded), methods=["GET"]),
            Route("/api/v1/namespaces/{namespace}/pods/{name}/log", self._answering(self._log), methods=["GET"]),
        ]

    def _answering(self, handler: Handler) -> Handler:
        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except Refusal as refusal:
                return refusal.response()
            except ApiError as error:
                return from_api(error).response()
            except NodeError as error:
                return Refusal(error.code, error.message).response()

        return answer

    async def _start(self, request: Request) -> Response:
        body = await _body(request)
        vm, vmi = await self._machines(request)
        return await self._decided(vm, requests.start(vm, vmi, body), body)

    async def _stop(self, request: Request) -> Response:
        body = await _body(request)
        grace = body.get("gracePeriod")
        if grace is not None and grace < 0:
            raise Refusal(400, "gracePeriod has to be greater or equal to 0")
        vm, vmi = await self._machines(request)
        decision = requests.stop(vm, vmi, body)
        if vmi is not None and not requests.is_final(vmi) and grace is not None and not _dry(body):
            await self._set_grace_period(vmi, grace)
        return await self._decided(vm, decision, body)

    async def _restart(self, request: Request) -> Response:
        body = await _body(request)
        vm, vmi = await self._machines(request)
        answer = await self._decided(vm, requests.restart(vm, vmi, body), body)
        if body.get("gracePeriodSeconds") == 0 and vmi is not None and not _dry(body):
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
                dry_run=_dry(body),
            )
        except ApiError as error:
            if error.code in (409, 422) and "test" in error.message:
                raise conflict(requests.VM, meta["name"], error.message) from error
            raise
        return Response(status_code=202)

    async def _pause(self, request: Request) -> Response:
        body = await _body(request)
        vmi = await self._running_machine(request, requests.NOT_RUNNING)
        name = vmi["metadata"]["name"]
        if vmi["spec"].get("livenessProbe"):
            raise Refusal(
                403,
                f'virtualmachineinstance.kubevirt.io "{name}" is forbidden: '
                "Pausing VMIs with LivenessProbe is currently not supported",
            )
        if requests.condition(vmi, "Paused"):
            raise conflict(VMI, name, "VMI is already paused")
        if not _dry(body):
            await self._node.pause(vmi)
        return Response(status_code=200)

    async def _unpause(self, request: Request) -> Response:
        body = await _body(request)
        vmi = await self._running_machine(request, "VMI is not running")
        if not requests.condition(vmi, "Paused"):
            raise conflict(VMI, vmi["metadata"]["name"], "VMI is not paused")
        if not _dry(body):
            await self._node.unpause(vmi)
        return Response(status_code=200)

    async def _log(self, request: Request) -> Response:
        name, namespace = request.path_params["name"], request.path_params["namespace"]
        pod = await self._client.get(PODS, name, namespace)
        query = request.query_params
        try:
            tail = int(query["tailLines"]) if "tailLines" in query else None
        except ValueError as error:
            raise Refusal(400, f"tailLines: {query['tailLines']!r} is not a number") from error
        follow = query.get("follow") in ("true", "1")
        chunks = self._node.read_log(pod, query.get("container", ""), follow=follow, tail=tail)
        first = await anext(chunks, b"")

        async def content() -> Any:
            yield first
            async for chunk in chunks:
                yield chunk

        return StreamingResponse(content(), media_type="text/plain")

    async def _not_upgraded(self, request: Request) -> Response:
        await self._console_target(request.path_params)
        raise Refusal(400, "the console is a websocket: ask for an upgrade")

    async def _console_target(self, parameters: dict[str, Any]) -> Obj:
        vmi = await self._vmi(parameters["namespace"], parameters["name"])
        if vmi is None:
            raise not_found(VMIS.plural, parameters["name"])
        if requests.phase(vmi) != "Running":
            raise conflict(VMI, parameters["name"], "VMI is not running")
        devices = ((vmi["spec"].get("domain") or {}).get("devices")) or {}
        if devices.get("autoattachSerialConsole") is False:
            raise Refusal(400, "No serial consoles are present.")
        return vmi

    async def _console(self, websocket: WebSocket) -> None:
        try:
            vmi = await self._console_target(websocket.path_params)
            stream = await self._node.open_console(vmi)
        except (Refusal, ApiError, NodeError) as error:
            await websocket.send_denial_response(_refusal(error).response())
            return
        try:
            offered = websocket.scope.get("subprotocols") or []
            await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
            await _join(websocket, stream)
        finally:
            await stream.close()

    async def _machines(self, request: Request) -> tuple[Obj, Obj | None]:
        name, namespace = request.path_params["name"], request.path_params["namespace"]
        try:
            vm = await self._client.get(VMS, name, namespace)
        except ApiError as error:
            raise (not_found(VMS.plural, name) if error.not_found else from_api(error)) from error
        return vm, await self._vmi(namespace, name)

    async def _running_machine(self, request: Request, otherwise: str) -> Obj:
        name = request.path_params["name"]
        vmi = await self._vmi(request.path_params["namespace"], name)
        if vmi is None:
            raise not_found(VMIS.plural, name)
        if requests.phase(vmi) != "Running":
            raise conflict(VMI, name, otherwise)
        return vmi

    async def _vmi(self, namespace: str, name: str) -> Obj | None:
        try:
            return await self._client.get(VMIS, name, namespace)
        except ApiError as error:
            if error.not_found:
                return None
            raise


async def _join(websocket: WebSocket, stream: ByteStream) -> None:
    """Copy both ways until one side ends; the other is ended then too."""

    async def to_guest() -> None:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            data = message.get("bytes") or (message.get("text") or "").encode()
            if data:
                await stream.write(data)

    async def to_client() -> None:
        while data := await stream.read():
            await websocket.send_bytes(data)

    tasks = [asyncio.create_task(to_guest()), asyncio.create_task(to_client())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not isinstance(task.exception(), (OSError, WebSocketDisconnect, type(None))):
                task.result()
        if tasks[1] in done:
            with suppress(RuntimeError, WebSocketDisconnect):
                await websocket.close(1000, "the guest's console has ended or another client has taken it")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _refusal(error: Refusal | ApiError | NodeError) -> Refusal:
    if isinstance(error, Refusal):
        return error
    return from_api(error) if isinstance(error, ApiError) else Refusal(error.code, error.message)


async def _body(request: Request) -> Obj:
    raw = await request.body()
    if len(raw) > MAX_BODY:
        raise Refusal(413, "the request is too large")
    if not raw.strip():
        return {}
    try:
        body = json.loads(raw)
    except ValueError as error:
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


def _dry(body: Obj) -> bool:
    return "All" in (body.get("dryRun") or [])


def resource_list() -> Obj:
    """Return what the group version holds."""
    kinds: dict[str, Resource] = {VMS.plural: VMS, VMIS.plural: VMIS}
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{SUBRESOURCES_GROUP}/{VERSION}",
        "resources": [
            {
                "name": f"{plural}/{action}",
                "singularName": "",
                "namespaced": True,
                "kind": kinds[plural].kind,
                "verbs": [verb],
            }
            for plural, actions in ACTIONS.items()
            for action, verb in actions.items()
        ],
    }


async def _group(_: Request) -> Response:
    version = {"groupVersion": f"{SUBRESOURCES_GROUP}/{VERSION}", "version": VERSION}
    group = {"kind": "APIGroup", "apiVersion": "v1", "name": SUBRESOURCES_GROUP}
    return JSONResponse({**group, "versions": [version], "preferredVersion": version})


async def _resources(_: Request) -> Response:
    return JSONResponse(resource_list())


async def _version(_: Request) -> Response:
    return JSONResponse({"gitVersion": f"v{__version__}", "goVersion": "", "platform": "linux"})


async def _healthy(_: Request) -> Response:
    return JSONResponse({"status": "ok"})
