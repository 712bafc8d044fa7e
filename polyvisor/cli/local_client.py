"""A stream of a machine behind a local port, for one client: a program that is started on it, or whoever connects.

The stream is opened before anything listens, so that a refusal is read at once; the port takes one client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from polyvisor.cli.client import Client
from polyvisor.cli.errors import CliError
from polyvisor.cli.output import note
from polyvisor.cli.streams import join, opened, over
from polyvisor.kube.tasks import end_task

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

CLIENT_SECONDS = 60.0
Came = asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]


async def serve(
    client: Client,
    path: str,
    query: dict[str, str] | None,
    address: str,
    port: int,
    command: Sequence[str],
    tell: Callable[[int], None],
    what: str,
) -> None:
    """Open the stream at ``path`` and join it to the first who connects.

    With a ``command`` run that, ``{address}`` and ``{port}`` filled in; else ``tell`` the local port and wait. ``what``
    names the stream for people.
    """
    websocket = await opened(client, path, query)
    came: Came = asyncio.get_running_loop().create_future()

    def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if came.done():
            writer.close()
        else:
            came.set_result((reader, writer))

    try:
        server = await asyncio.start_server(take, address, port)
    except OSError as error:
        await websocket.close()
        raise CliError(f"cannot listen on {address} port {port}: {error.strerror or error}") from error
    async with server:
        local = server.sockets[0].getsockname()[1]
        running: asyncio.Task[int] | None = None
        if command:
            arguments = [part.format(address=address, port=local) for part in command[1:]]
            process = await asyncio.create_subprocess_exec(command[0], *arguments)
            running = asyncio.create_task(process.wait())
        else:
            tell(local)
        reason = await _joined(websocket, came, running, what)
    if reason:
        note(f"{what} was closed: {reason}")


async def _joined(websocket: ClientConnection, came: Came, running: asyncio.Task[int] | None, what: str) -> str:
    closed = asyncio.create_task(websocket.wait_closed())
    waiting: list[asyncio.Future[Any]] = [came, closed, *([running] if running else [])]
    try:
        limit = CLIENT_SECONDS if running else None
        await asyncio.wait(waiting, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if not came.done():
            if closed.done():
                return websocket.close_reason or "the server ended it"
            raise CliError(f"the program for {what} did not connect")
        reader, writer = came.result()
        try:
            return await join(websocket, *over(reader, writer))
        finally:
            writer.close()
    finally:
        await end_task(closed)
        if running:
            await end_task(running)
        await websocket.close()
