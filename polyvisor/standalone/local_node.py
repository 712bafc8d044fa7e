"""The node side of the subresource API where the node is this process: the agent, its errors as HTTP codes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from polyvisor.agent.agent import Agent
from polyvisor.agent.link import LauncherError
from polyvisor.agent.serving import code_of
from polyvisor.api import Obj
from polyvisor.server.node import ByteStream, NodeError


class LocalNode:
    """Asks the agent, which starts later than the routes that need it."""

    def __init__(self) -> None:
        self.agent: Agent | None = None

    async def ask(self, vmi: Obj, operation: str, **arguments: Any) -> Obj:
        """Do something to a machine, or ask its guest something."""
        try:
            return await self._agent().ask(*_name(vmi), operation, **arguments)
        except LauncherError as error:
            raise _node_error(error) from error

    async def open(self, vmi: Obj, stream: str, **arguments: Any) -> ByteStream:
        """Open a stream to a machine."""
        try:
            return await self._agent().open(*_name(vmi), stream, **arguments)
        except LauncherError as error:
            raise _node_error(error) from error

    def read_log(self, pod: Obj, container: str, *, follow: bool, tail: int | None) -> AsyncIterator[bytes]:
        """Return the guest's console log, or the launcher's own."""
        return self._agent().read_log(pod, container, follow=follow, tail=tail)

    def read_last_log(self, uuid: str, container: str, *, tail: int | None) -> AsyncIterator[bytes] | None:
        """Return what the last instance of a machine wrote; None if that was not kept."""
        return self._agent().read_last_log(uuid, container, tail=tail)

    def _agent(self) -> Agent:
        if self.agent is None:
            raise NodeError("the node agent is still starting", 503)
        return self.agent


def _name(vmi: Obj) -> tuple[str, str]:
    return vmi["metadata"]["namespace"], vmi["metadata"]["name"]


def _node_error(error: LauncherError) -> NodeError:
    return NodeError(str(error), code_of(error))
