"""``vnc``: a machine's screen behind a local port, and a viewer on it; ``vnc screenshot``: a picture of it.

The screen is opened before anything listens, so that a refusal is read at once; the port takes one viewer, for a
screen has one session at a time.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from polyvisor.cli.client import Client
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.lifecycle import subresource
from polyvisor.cli.output import note, say
from polyvisor.cli.streams import join, opened, over
from polyvisor.kube.tasks import end_task

VIEWERS = {
    "remote-viewer": ("remote-viewer", "vnc://{address}:{port}"),
    "tiger": ("xtigervncviewer", "{address}::{port}"),
    "tigervnc": ("vncviewer", "{address}::{port}"),
    "real": ("vncviewer", "WarnUnencrypted=0", "{address}::{port}"),
    "gvncviewer": ("gvncviewer", "{address}::{port}"),
    "chicken": ("/Applications/Chicken.app/Contents/MacOS/Chicken", "{address}:{port}"),
}
"""Type of viewer -> program and arguments; the first that is installed is taken."""
VIEWER_SECONDS = 60.0


def viewer(kind: str, path: str) -> tuple[str, ...]:
    """Return the command of the viewer that was asked for, or of one that is there."""
    if kind and kind not in VIEWERS:
        raise CliError(f"no viewer of type {kind!r}: {', '.join(VIEWERS)}", ExitCode.USAGE)
    if path:
        chosen = VIEWERS[kind or "tiger"]
        if not shutil.which(path):
            raise CliError(f"{path} is not a program", ExitCode.USAGE)
        return (path, *chosen[1:])
    for name in [kind] if kind else VIEWERS:
        if found := shutil.which(VIEWERS[name][0]):
            return (found, *VIEWERS[name][1:])
    raise CliError(
        "no VNC viewer is installed",
        hint="Install remote-viewer (package virt-viewer) or tigervnc-viewer, or connect to --proxy-only.",
    )


def show(
    client: Client, namespace: str, name: str, address: str, port: int, command: tuple[str, ...], preserve: bool
) -> None:
    """Open the screen; with a ``command`` run that viewer on it, else print the local port as JSON and wait."""
    asyncio.run(_show(client, namespace, name, address, port, command, preserve))


async def _show(
    client: Client, namespace: str, name: str, address: str, port: int, command: tuple[str, ...], preserve: bool
) -> None:
    path = subresource(namespace, "virtualmachineinstances", name, "vnc")
    websocket = await opened(client, path, {"preserveSession": "true"} if preserve else None)
    came: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.get_running_loop().create_future()

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
        watching: asyncio.Task[int] | None = None
        if command:
            arguments = [part.format(address=address, port=local) for part in command[1:]]
            process = await asyncio.create_subprocess_exec(command[0], *arguments)
            watching = asyncio.create_task(process.wait())
        else:
            say(json.dumps({"port": local}))
            sys.stdout.flush()
        reason = await _serve(websocket, came, watching)
    if reason:
        note(f"the screen was closed: {reason}")


async def _serve(
    websocket: object,
    came: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]],
    watching: asyncio.Task[int] | None,
) -> str:
    from websockets.asyncio.client import ClientConnection

    assert isinstance(websocket, ClientConnection)
    closed = asyncio.create_task(websocket.wait_closed())
    waiting: list[asyncio.Future[Any]] = [came, closed, *([watching] if watching else [])]
    try:
        limit = VIEWER_SECONDS if watching else None
        await asyncio.wait(waiting, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if not came.done():
            if closed.done():
                return websocket.close_reason or "the server ended it"
            raise CliError("the viewer did not connect")
        reader, writer = came.result()
        try:
            return await join(websocket, *over(reader, writer))
        finally:
            writer.close()
    finally:
        await end_task(closed)
        if watching:
            await end_task(watching)
        await websocket.close()


def screenshot(client: Client, namespace: str, name: str, file: str, *, move_cursor: bool) -> None:
    """Write a picture of the screen to a file, or to standard output."""
    path = subresource(namespace, "virtualmachineinstances", name, "vnc/screenshot")
    with client.stream(path, {"moveCursor": "true"} if move_cursor else None, timeout=60) as answer:
        picture = answer.read()
    if file and file != "-":
        try:
            Path(file).write_bytes(picture)
        except OSError as error:
            raise CliError(f"{file}: {error.strerror}") from error
    elif sys.stdout.isatty():
        raise CliError("a picture cannot be shown in a terminal", ExitCode.USAGE, "Give -f FILE.")
    else:
        sys.stdout.buffer.write(picture)
