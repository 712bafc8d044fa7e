"""Streams to a machine over websockets: console, VNC, USB, forwarded ports; and the screenshot, which is an answer.

A stream that cannot be had is refused before the upgrade, with a ``Status``, as a client that got a websocket could
not tell a refusal from a guest that says nothing. Nothing is buffered here: a slow client slows its stream, and what
that means is for the stream's other end to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from polyvisor.drivers import DriverRegistry
from polyvisor.kube.errors import ApiError
from polyvisor.server.errors import Refusal, answering, refusal_of
from polyvisor.server.metrics import counted
from polyvisor.server.node import ByteStream, NodeError, NodeSide
from polyvisor.server.subresources_gate import check
from polyvisor.server.subresources_machines import Machines
from polyvisor.server.subresources_streamable import may_stream

Obj = dict[str, Any]
Target = Callable[[dict[str, Any]], Awaitable[tuple[Obj, dict[str, Any]]]]
SUBPROTOCOL = "plain.kubevirt.io"
PROTOCOLS = ("tcp", "udp")
MAX_SCREENSHOT = 256 * 1024 * 1024
NORMAL, GOING_AWAY = 1000, 1001
NO_MORE = {
    "console": (GOING_AWAY, "EOF: the guest's console has ended or another client has taken it"),
    "vnc": (GOING_AWAY, "EOF: the guest's screen is gone or another client has taken it"),
    "port": (NORMAL, ""),
    "usbredir": (NORMAL, "the machine let go of the USB device, or is over"),
}
"""How a stream is closed. KubeVirt's client takes a normal end for success and says nothing; others tell of EOF."""


class Streams:
    """The routes."""

    def __init__(self, machines: Machines, node: NodeSide, drivers: DriverRegistry) -> None:
        self._machines = machines
        self._node = node
        self._drivers = drivers

    def routes(self, vm: str, vmi: str) -> list[BaseRoute]:
        """Return the routes below a machine's and an instance's path."""
        found: list[BaseRoute] = []
        for path, stream, target in (
            (f"{vmi}/console", "console", self._console),
            (f"{vmi}/vnc", "vnc", self._screen),
            (f"{vmi}/usbredir", "usbredir", self._usb),
            (f"{vmi}/portforward/{{port}}", "port", self._port(self._machines.existing)),
            (f"{vmi}/portforward/{{port}}/{{protocol}}", "port", self._port(self._machines.existing)),
            (f"{vm}/portforward/{{port}}", "port", self._port(self._machines.of_vm)),
            (f"{vm}/portforward/{{port}}/{{protocol}}", "port", self._port(self._machines.of_vm)),
        ):
            found.append(WebSocketRoute(path, self._streaming(stream, target)))
            found.append(Route(path, answering(_not_upgraded(target)), methods=["GET"]))
        found.append(Route(f"{vmi}/vnc/screenshot", answering(self._screenshot), methods=["GET"]))
        return found

    def _streaming(self, stream: str, target: Target) -> Callable[[WebSocket], Awaitable[None]]:
        async def serve(websocket: WebSocket) -> None:
            try:
                vmi, arguments = await target({**websocket.query_params, **websocket.path_params})
                opened = await self._node.open(vmi, stream, **arguments)
            except (Refusal, ApiError, NodeError) as error:
                await websocket.send_denial_response(refusal_of(error).response())
                return
            try:
                offered = websocket.scope.get("subprotocols") or []
                await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
                with counted(stream, vmi):
                    await join(websocket, opened, *NO_MORE[stream])
            finally:
                await opened.close()

        return serve

    async def _able(self, parameters: dict[str, Any], action: str) -> Obj:
        """Return a machine whose driver has a stream."""
        vmi = await self._machines.existing(parameters["namespace"], parameters["name"])
        check(self._drivers, vmi, action)
        return vmi

    async def _console(self, parameters: dict[str, Any]) -> tuple[Obj, dict[str, Any]]:
        vmi = await self._able(parameters, "console")
        may_stream(vmi, "console")
        return vmi, {}

    async def _screen(self, parameters: dict[str, Any], action: str = "vnc") -> tuple[Obj, dict[str, Any]]:
        vmi = await self._able(parameters, action)
        may_stream(vmi, action)
        return vmi, {"preserve": parameters.get("preserveSession") == "true"}

    async def _usb(self, parameters: dict[str, Any]) -> tuple[Obj, dict[str, Any]]:
        vmi = await self._able(parameters, "usbredir")
        may_stream(vmi, "usbredir")
        return vmi, {}

    def _port(self, find: Callable[[str, str], Awaitable[Obj]]) -> Target:
        async def target(parameters: dict[str, Any]) -> tuple[Obj, dict[str, Any]]:
            port, protocol = parameters["port"], parameters.get("protocol") or "tcp"
            if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
                raise Refusal(400, f"{port!r} is not a port")
            if protocol not in PROTOCOLS:
                raise Refusal(400, f"{protocol!r} cannot be forwarded: tcp or udp")
            vmi = await find(parameters["namespace"], parameters["name"])
            may_stream(vmi, "portforward")
            return vmi, {"port": int(port), "protocol": protocol}

        return target

    async def _screenshot(self, request: Request) -> Response:
        vmi, _ = await self._screen({**request.path_params}, "vnc/screenshot")
        wake = request.query_params.get("moveCursor") == "true"
        stream = await self._node.open(vmi, "screenshot", wake=wake)
        picture = b""
        try:
            while (part := await stream.read()) and len(picture) < MAX_SCREENSHOT:
                picture += part
        finally:
            await stream.close()
        return Response(picture, media_type="image/png")


def _not_upgraded(target: Target) -> Callable[[Request], Awaitable[Response]]:
    async def refuse(request: Request) -> Response:
        await target({**request.query_params, **request.path_params})
        raise Refusal(400, "this is a websocket: ask for an upgrade")

    return refuse


async def join(websocket: WebSocket, stream: ByteStream, code: int, ended: str) -> None:
    """Copy both ways until one side ends; the other is ended then too, with a code and the reason ``ended``."""

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
                await websocket.close(code, ended)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
