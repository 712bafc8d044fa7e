"""The node side of the subresource API where the node is this process: its agents, their errors as HTTP codes.

A machine on an endpoint is the endpoints' agent's, every other one the node's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from polyvisor.agent.agent import Agent
from polyvisor.agent.link.connection import LauncherError
from polyvisor.agent.platform.endpoint.access import EndpointAccess
from polyvisor.agent.platform.endpoint.agent import EndpointAgent
from polyvisor.agent.platform.endpoint.link import HostError
from polyvisor.agent.serving import code_of
from polyvisor.api import Obj
from polyvisor.api.endpoint_names import endpoint_of_node
from polyvisor.api.reading import read_status
from polyvisor.server.node import ByteStream, NodeError


class LocalNode:
    """Asks the agents, which start later than the routes that need them."""

    def __init__(self) -> None:
        self.agent: Agent | None = None
        self.endpoints: EndpointAgent | None = None

    async def ask(self, vmi: Obj, operation: str, **arguments: Any) -> Obj:
        """Do something to a machine, or ask its guest something."""
        try:
            if (there := self._elsewhere(_node(vmi))) is not None:
                return await there.ask(vmi, operation, **arguments)
            return await self._agent().ask(*_name(vmi), operation, **arguments)
        except HostError as error:
            raise NodeError(str(error), CODES.get(error.code, 500)) from error
        except LauncherError as error:
            raise _node_error(error) from error

    async def open(self, vmi: Obj, stream: str, **arguments: Any) -> ByteStream:
        """Open a stream to a machine."""
        try:
            if (there := self._elsewhere(_node(vmi))) is not None:
                return await there.open(vmi, stream, **arguments)
            return await self._agent().open(*_name(vmi), stream, **arguments)
        except HostError as error:
            raise NodeError(str(error), CODES.get(error.code, 500)) from error
        except LauncherError as error:
            raise _node_error(error) from error

    def read_log(self, pod: Obj, container: str, *, follow: bool, tail: int | None) -> AsyncIterator[bytes]:
        """Return the guest's console log, or the launcher's own."""
        if (there := self._elsewhere(str(pod["spec"].get("nodeName") or ""))) is not None:
            return there.read_log(pod, container, follow=follow, tail=tail)
        return self._agent().read_log(pod, container, follow=follow, tail=tail)

    def read_last_log(self, uuid: str, container: str, *, tail: int | None) -> AsyncIterator[bytes] | None:
        """Return what the last instance of a machine wrote; None if that was not kept."""
        return self._agent().read_last_log(uuid, container, tail=tail)

    def _elsewhere(self, node: str) -> EndpointAccess | None:
        """Return the way to the machines of the endpoint whose Node that is, None if it is no endpoint's."""
        name = endpoint_of_node(node)
        keeper = self.endpoints.keeper(name) if self.endpoints is not None and name else None
        return EndpointAccess(keeper, self.endpoints) if keeper is not None and self.endpoints is not None else None

    def _agent(self) -> Agent:
        if self.agent is None:
            raise NodeError("the node agent is still starting", 503)
        return self.agent


CODES = {
    "not-connected": 503,
    "ended": 503,
    "no-answer": 504,
    "no-domain": 409,
    "foreign": 403,
    "unreachable-guest": 409,
    "busy": 500,
    "no-way": 409,
    "no-screen": 409,
}
"""The code of an endpoint's error -> the HTTP code that clients see."""


def _node(vmi: Obj) -> str:
    return str(read_status(vmi).get("nodeName") or "")


def _name(vmi: Obj) -> tuple[str, str]:
    return vmi["metadata"]["namespace"], vmi["metadata"]["name"]


def _node_error(error: LauncherError) -> NodeError:
    return NodeError(str(error), code_of(error))
