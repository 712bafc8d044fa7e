"""What virt-api asks of an endpoint's agent, by the interface that a node's has: operations, streams."""

from __future__ import annotations

from typing import Any

from polyvisor.agent.link.connection import LauncherError, LauncherGone
from polyvisor.agent.link.streams import ByteStream
from polyvisor.agent.platform.endpoint.access import EndpointAccess
from polyvisor.agent.platform.endpoint.agent import EndpointAgent
from polyvisor.agent.platform.endpoint.link import HostError
from polyvisor.api import Obj

AWAY = ("not-connected", "ended", "no-answer", "not-ours")
"""Codes of errors that mean: try again later."""


class EndpointMachines:
    """The machines of one endpoint, by namespace and name."""

    def __init__(self, agent: EndpointAgent, endpoint: str) -> None:
        self._agent = agent
        self._endpoint = endpoint

    async def ask(self, namespace: str, name: str, operation: str, **arguments: Any) -> Obj:
        """Do something to a machine."""
        access, vmi = self._found(namespace, name)
        try:
            return await access.ask(vmi, operation, **arguments)
        except HostError as error:
            raise _translated(error) from error

    async def open(self, namespace: str, name: str, stream: str, **arguments: Any) -> ByteStream:
        """Open a stream to one."""
        access, vmi = self._found(namespace, name)
        try:
            return await access.open(vmi, stream, **arguments)
        except HostError as error:
            raise _translated(error) from error

    def _found(self, namespace: str, name: str) -> tuple[EndpointAccess, Obj]:
        vmi, keeper = self._agent.named(namespace, name), self._agent.keeper(self._endpoint)
        if vmi is None or keeper is None or self._agent.served(vmi) is None:
            raise LauncherGone(f"{namespace}/{name} does not run on endpoint {self._endpoint}")
        return EndpointAccess(keeper, self._agent), vmi


def _translated(error: HostError) -> LauncherError:
    return LauncherGone(str(error)) if error.code in AWAY else LauncherError(str(error))
