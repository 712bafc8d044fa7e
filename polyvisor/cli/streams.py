"""Websockets to the API server for streams, on an event loop: one connection, or many behind a local port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from polyvisor.cli.client import LOOPBACK_SECONDS, Client
from polyvisor.kube.errors import UNREACHABLE, ApiError, error_from_status, error_from_text
from polyvisor.kube.tasks import end_task

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

SUBPROTOCOL = "plain.kubevirt.io"
CHUNK = 64 * 1024
OPEN_SECONDS = 10.0
Read = Callable[[], Awaitable[bytes]]
Write = Callable[[bytes], Awaitable[None]]


def options(client: Client, path: str, timeout: float, query: dict[str, str] | None = None) -> tuple[str, Any]:
    """Return the address of a stream and what to connect with."""
    from websockets.typing import Subprotocol

    connection = client.connection
    url = "ws" + connection.server.removeprefix("http") + path + (f"?{urlencode(query)}" if query else "")
    authorization = connection.authorization()
    return url, {
        "ssl": connection.ssl_context,
        "subprotocols": [Subprotocol(SUBPROTOCOL)],
        "additional_headers": {"Authorization": authorization} if authorization else {},
        "open_timeout": timeout,
        "compression": None,
        "proxy": None if connection.loopback else True,
        "max_size": None,
        "ping_interval": None,  # one who reads slowly, as with ^S in a terminal, would not hear the answers
    }


def refusal(client: Client, error: Exception) -> ApiError:
    """Return what an attempt to open a stream failed with, as the server said it."""
    from websockets.exceptions import InvalidStatus

    if not isinstance(error, InvalidStatus):
        return ApiError(0, UNREACHABLE, f"cannot reach the API server at {client.connection.server}: {error}")
    body = error.response.body or b""
    try:
        return error_from_status(json.loads(body), error.response.status_code)
    except ValueError:
        return error_from_text(error.response.status_code, body.decode(errors="replace"))


async def opened(client: Client, path: str, query: dict[str, str] | None = None) -> ClientConnection:
    """Open a stream; the server's refusal comes as :class:`ApiError`."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidHandshake

    limit = LOOPBACK_SECONDS if client.connection.loopback else OPEN_SECONDS
    url, arguments = options(client, path, limit, query)
    try:
        return await connect(url, close_timeout=2.0, **arguments)
    except (OSError, InvalidHandshake, TimeoutError) as error:
        raise refusal(client, error) from error


async def join(websocket: ClientConnection, read: Read, write: Write) -> str:
    """Copy both ways until one side ends; return why the server closed, if it said so."""
    from websockets.exceptions import ConnectionClosed

    async def up() -> None:
        while data := await read():
            await websocket.send(data)

    async def down() -> None:
        while True:
            data = await websocket.recv()
            await write(data.encode() if isinstance(data, str) else data)

    tasks = [asyncio.create_task(up()), asyncio.create_task(down())]
    reason = ""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            error = task.exception()
            if isinstance(error, ConnectionClosed):
                reason = error.rcvd.reason if error.rcvd else ""
            elif error is not None and not isinstance(error, OSError):
                raise error
    finally:
        for task in tasks:
            await end_task(task)
        await websocket.close()
    return reason


def over(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[Read, Write]:
    """Return how to read from and write to a local connection."""

    async def write(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    return lambda: reader.read(CHUNK), write
