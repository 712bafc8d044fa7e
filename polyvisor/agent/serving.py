"""The agent's server: what virt-api asks of a node's machines, over TLS both ways.

The client is virt-api, known by its certificate's name; it has asked the API server whether the user may. For the
migration of a machine to this node it is the agent of another. An
operation is a POST with its arguments and answers with JSON, a stream is a websocket whose messages are the stream's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from polyvisor.agent.link.connection import LauncherError, LauncherGone
from polyvisor.agent.link.streams import ByteStream
from polyvisor.api import Obj
from polyvisor.api.migrations import HANDLER_CLIENT_NAME
from polyvisor.api.names import API_CLIENT_NAME
from polyvisor.process.body_limit import BodyLimit

MACHINE = "/v1/namespaces/{namespace}/virtualmachineinstances/{name}"
MIGRATION = f"{MACHINE}/migrations/{{uid}}"
MAX_BODY = 4 * 1024 * 1024
"""Bytes of a request; the longest has a domain's XML in it."""
OF_MIGRATIONS = 6
"""Which part of a path tells a migration's from a machine's."""
CODES = {"dial": 502, "internal": 500}
"""HTTP codes for what a launcher or the agent says went wrong; anything else is the machine's state: a conflict."""


class Machines(Protocol):
    """What is asked of the agent."""

    async def ask(self, namespace: str, name: str, operation: str, **arguments: Any) -> Obj:
        """Do something to a machine."""

    async def open(self, namespace: str, name: str, stream: str, **arguments: Any) -> ByteStream:
        """Open a stream to one."""


def code_of(error: LauncherError) -> int:
    """Return the HTTP code for a failure."""
    return 503 if isinstance(error, LauncherGone) else CODES.get(error.code, 409)


class Moves(Protocol):
    """What another node's agent asks of this one, as the target of a migration."""

    async def ask(self, namespace: str, name: str, uid: str, step: str, **arguments: Any) -> Obj:
        """Take a step of a migration."""

    async def open(self, namespace: str, name: str, uid: str, stream: str) -> ByteStream:
        """Open a stream that takes a guest's ``state``, or one of its ``disk``s."""


def application(machines: Machines, further: Sequence[BaseRoute] = (), moves: Moves | None = None) -> ASGIApp:
    """Return the server's application, with ``further`` routes for virt-api.

    ``moves`` takes in machines of other nodes, where there are any.
    """

    async def ask(request: Request) -> Response:
        where = request.path_params
        try:
            arguments = _arguments(await request.body())
            if moves is not None and "uid" in where:
                found = await moves.ask(where["namespace"], where["name"], where["uid"], where["step"], **arguments)
            else:
                found = await machines.ask(where["namespace"], where["name"], where["operation"], **arguments)
        except LauncherError as error:
            return _failure(error)
        except (TypeError, ValueError) as error:
            return JSONResponse({"message": f"arguments: {error}"}, status_code=400)
        return JSONResponse(found)

    async def opened(websocket: WebSocket) -> None:
        where = websocket.path_params
        try:
            arguments = _arguments(websocket.query_params.get("arguments", "").encode())
            if moves is not None and "uid" in where:
                stream = await moves.open(where["namespace"], where["name"], where["uid"], where["stream"])
            else:
                stream = await machines.open(where["namespace"], where["name"], where["stream"], **arguments)
        except LauncherError as error:
            await websocket.send_denial_response(_failure(error))
            return
        except (TypeError, ValueError) as error:
            await websocket.send_denial_response(JSONResponse({"message": f"arguments: {error}"}, status_code=400))
            return
        try:
            await websocket.accept()
            await _join(websocket, stream)
        finally:
            await stream.close()

    routes: list[BaseRoute] = [
        Route(f"{MACHINE}/ask/{{operation}}", ask, methods=["POST"]),
        WebSocketRoute(f"{MACHINE}/open/{{stream}}", opened),
        *further,
    ]
    if moves is not None:
        routes.append(Route(f"{MIGRATION}/{{step}}", ask, methods=["POST"]))
        routes.append(WebSocketRoute(f"{MIGRATION}/streams/{{stream}}", opened))
    return _Gate(BodyLimit(Starlette(routes=routes), lambda _: MAX_BODY))


class _Gate:
    """Lets virt-api through, and other nodes' agents to migrations; nobody else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and scope.get("state", {}).get("peer") != _expected(scope["path"]):
            refused = JSONResponse({"message": f"this is for {_expected(scope['path'])} alone"}, status_code=403)
            if scope["type"] == "websocket":
                await WebSocket(scope, receive, send).send_denial_response(refused)
            else:
                await refused(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _expected(path: str) -> str:
    """Return who may ask for a path."""
    parts = path.split("/")
    return HANDLER_CLIENT_NAME if parts[OF_MIGRATIONS : OF_MIGRATIONS + 1] == ["migrations"] else API_CLIENT_NAME


async def _join(websocket: WebSocket, stream: ByteStream) -> None:
    """Copy both ways until one side ends."""

    async def inward() -> None:
        with suppress(WebSocketDisconnect, ConnectionError):
            while True:
                await stream.write(await websocket.receive_bytes())

    async def outward() -> None:
        with suppress(WebSocketDisconnect, RuntimeError):
            while data := await stream.read():
                await websocket.send_bytes(data)
            await websocket.close()

    tasks = [asyncio.create_task(inward()), asyncio.create_task(outward())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _arguments(raw: bytes) -> Obj:
    found = json.loads(raw or b"{}")
    if not isinstance(found, dict):
        raise ValueError("an object is wanted")
    return found


def _failure(error: LauncherError) -> JSONResponse:
    return JSONResponse({"message": str(error)}, status_code=code_of(error))
