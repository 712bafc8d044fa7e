"""The node side of the subresource API where the node is this process: the agent, its errors as HTTP codes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from polyvisor.agent.agent import Agent
from polyvisor.agent.link import LauncherError, LauncherGone
from polyvisor.api import Obj
from polyvisor.server.node import NodeError

CHUNK = 64 * 1024


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
    """Asks the agent, which starts later than the routes that need it."""

    def __init__(self) -> None:
        self.agent: Agent | None = None

    async def open_console(self, vmi: Obj) -> Console:
        """Join the console of a machine."""
        try:
            return Console(*await self._agent().open_console(*_name(vmi)))
        except LauncherError as error:
            raise _node_error(error) from error

    async def pause(self, vmi: Obj) -> None:
        """Pause a machine."""
        try:
            await self._agent().pause(*_name(vmi))
        except LauncherError as error:
            raise _node_error(error) from error

    async def unpause(self, vmi: Obj) -> None:
        """Let a machine go on."""
        try:
            await self._agent().unpause(*_name(vmi))
        except LauncherError as error:
            raise _node_error(error) from error

    def read_log(self, pod: Obj, container: str, *, follow: bool, tail: int | None) -> AsyncIterator[bytes]:
        """Return the guest's console log, or the launcher's own."""
        return self._agent().read_log(pod, container, follow=follow, tail=tail)

    def _agent(self) -> Agent:
        if self.agent is None:
            raise NodeError("the node agent is still starting", 503)
        return self.agent


def _name(vmi: Obj) -> tuple[str, str]:
    return vmi["metadata"]["namespace"], vmi["metadata"]["name"]


def _node_error(error: LauncherError) -> NodeError:
    return NodeError(str(error), 503 if isinstance(error, LauncherGone) else 409)
