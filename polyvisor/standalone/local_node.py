"""The node side of the subresource API where the node is this process: straight to the launchers' sockets.

The agent need not be asked: a launcher takes several connections and tells each of them every change of state, so the
agent learns of a pause that was asked for here as it learns of everything else.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from polyvisor.agent.launchers import SOCKET, folder_id
from polyvisor.agent.link import LauncherError, LauncherGone, Link, open_console
from polyvisor.api import Obj
from polyvisor.api.names import COMPUTE_CONTAINER
from polyvisor.api.resources import PODS
from polyvisor.kube.client import KubeClient
from polyvisor.server.node import NodeError

CHUNK = 64 * 1024
CONSOLE_LOG = "console.log"
LAUNCHER_LOG = "launcher.log"
POLL_SECONDS = 0.25
MAX_TAIL = 4 * 1024 * 1024


class Console:
    """A launcher's console stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        """Return what the guest wrote next, empty when the stream has ended."""
        try:
            return await self._reader.read(CHUNK)
        except ConnectionError:
            return b""

    async def write(self, data: bytes) -> None:
        """Send to the guest."""
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        """Let go of the console."""
        self._writer.close()


class LocalNode:
    """Reaches the launchers below one folder."""

    def __init__(self, client: KubeClient, launchers: Path) -> None:
        self._client = client
        self._launchers = launchers

    async def open_console(self, vmi: Obj) -> Console:
        """Join the console of a machine."""
        try:
            return Console(*await open_console(await self._socket(vmi)))
        except LauncherError as error:
            raise _node_error(error) from error

    async def pause(self, vmi: Obj) -> None:
        """Pause a machine."""
        await self._request(vmi, "pause")

    async def unpause(self, vmi: Obj) -> None:
        """Let a machine go on."""
        await self._request(vmi, "resume")

    async def read_log(
        self, pod: Obj, container: str, *, follow: bool, tail: int | None
    ) -> AsyncIterator[bytes]:
        """Yield the guest's console log, or the launcher's own for the main container."""
        name = LAUNCHER_LOG if container == COMPUTE_CONTAINER else CONSOLE_LOG
        path = self._launchers / folder_id(pod["metadata"]["uid"]) / name
        data = await asyncio.to_thread(_read_all, path)
        if data is None:
            raise NodeError(f"{name} of Pod {pod['metadata']['name']} is not there (yet, or any more)", 404)
        yield _last_lines(data, tail)
        if not follow:
            return
        position, number = await asyncio.to_thread(_end_of, path)
        while path.parent.exists():
            more, position, number = await asyncio.to_thread(_read_more, path, position, number)
            if more:
                yield more
            else:
                await asyncio.sleep(POLL_SECONDS)  # a file tells nobody that it has grown

    async def _request(self, vmi: Obj, operation: str) -> None:
        try:
            link = await Link.connect(await self._socket(vmi), lambda: None)
            try:
                await link.request(operation)
            finally:
                await link.close()
        except LauncherError as error:
            raise _node_error(error) from error

    async def _socket(self, vmi: Obj) -> Path:
        uid, namespace = vmi["metadata"]["uid"], vmi["metadata"]["namespace"]
        pods = [
            pod
            for pod in await self._client.list(PODS, namespace)
            if any(owner.get("uid") == uid for owner in pod["metadata"].get("ownerReferences") or [])
            and not pod["metadata"].get("deletionTimestamp")
        ]
        for pod in pods:
            path = self._launchers / folder_id(pod["metadata"]["uid"]) / SOCKET
            if path.exists():
                return path
        raise NodeError(f"machine {vmi['metadata']['name']!r} has no launcher on this node", 409)


def _node_error(error: LauncherError) -> NodeError:
    return NodeError(str(error), 503 if isinstance(error, LauncherGone) else 409)


def _read_all(path: Path) -> bytes | None:
    parts = []
    for file in (path.with_name(path.name + ".1"), path):
        try:
            with file.open("rb") as stream:
                parts.append(stream.read(MAX_TAIL))
        except OSError:
            continue
    return b"".join(parts) if parts else None


def _last_lines(data: bytes, count: int | None) -> bytes:
    if count is None:
        return data
    lines = data.splitlines(keepends=True)
    return b"".join(lines[-count:]) if count > 0 else b""


def _end_of(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_ino


def _read_more(path: Path, position: int, number: int) -> tuple[bytes, int, int]:
    try:
        with path.open("rb") as stream:
            found = os.fstat(stream.fileno())
            if found.st_ino != number or found.st_size < position:
                position = 0
            stream.seek(position)
            data = stream.read(CHUNK)
            return data, position + len(data), found.st_ino
    except OSError:
        return b"", position, number
