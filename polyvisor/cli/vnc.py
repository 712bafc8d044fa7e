"""``vnc``: a machine's screen behind a local port, and a viewer on it; ``vnc screenshot``: a picture of it.

The port takes one viewer, for a screen has one session at a time.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path

from polyvisor.cli.client import Client
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.lifecycle import subresource
from polyvisor.cli.local_client import serve
from polyvisor.cli.output import say

VIEWERS = {
    "remote-viewer": ("remote-viewer", "vnc://{address}:{port}"),
    "tiger": ("xtigervncviewer", "{address}::{port}"),
    "tigervnc": ("vncviewer", "{address}::{port}"),
    "real": ("vncviewer", "WarnUnencrypted=0", "{address}::{port}"),
    "gvncviewer": ("gvncviewer", "{address}::{port}"),
    "chicken": ("/Applications/Chicken.app/Contents/MacOS/Chicken", "{address}:{port}"),
}
"""Type of viewer -> program and arguments; the first that is installed is taken."""


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
    path = subresource(namespace, "virtualmachineinstances", name, "vnc")
    query = {"preserveSession": "true"} if preserve else None

    def tell(local: int) -> None:
        say(json.dumps({"port": local}))
        sys.stdout.flush()

    asyncio.run(serve(client, path, query, address, port, command, tell, "the screen"))


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
