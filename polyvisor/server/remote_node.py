"""The node side of the subresource API in a cluster: the node agent of the machine's node, over TLS both ways.

The agent is found by its Pod on that node, or by its endpoint where the node stands for a host without a kubelet, and
believed because of its certificate, which names the role and not the node; this process shows one of its own. A stream
is a websocket whose messages are the stream's.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from typing import Any

from polyvisor.api.endpoint_names import endpoint_of_node, on_endpoint
from polyvisor.api.reading import read_status
from polyvisor.kube.client import KubeClient
from polyvisor.process.handlers import PORT, SECONDS, AgentAddress, HandlerError, Peers, agent_address
from polyvisor.server.node import ByteStream, NodeError

__all__ = ["PORT", "SECONDS", "RemoteNode", "find_agent"]
Obj = dict[str, Any]


class RemoteNode:
    """Asks the agents. ``tls`` is a client's context that shows this process's pair and believes our authority."""

    def __init__(self, client: KubeClient, namespace: str, tls: ssl.SSLContext, port: int = PORT) -> None:
        self._client = client
        self._namespace = namespace
        self._peers = Peers(tls)
        self._port = port

    async def ask(self, vmi: Obj, operation: str, **arguments: Any) -> Obj:
        """Do something to a machine, or ask its guest something."""
        agent = await self._agent(vmi)
        try:
            return await self._peers.post(agent, f"{_path(vmi)}/ask/{operation}", arguments)
        except HandlerError as error:
            raise NodeError(str(error), error.code) from error

    async def open(self, vmi: Obj, stream: str, **arguments: Any) -> ByteStream:
        """Open a stream to a machine."""
        agent = await self._agent(vmi)
        try:
            return await self._peers.open(agent, f"{_path(vmi)}/open/{stream}", arguments)
        except HandlerError as error:
            raise NodeError(str(error), error.code) from error

    async def read_log(self, pod: Obj, container: str, *, follow: bool, tail: int | None) -> AsyncIterator[bytes]:
        """Refuse: the kubelet has the logs of a cluster's Pods."""
        raise NodeError("ask the API server for the log of a Pod", 400)
        yield b""

    async def _agent(self, vmi: Obj) -> AgentAddress:
        node = str(read_status(vmi).get("nodeName") or "")
        if not node:
            raise NodeError(f"machine {vmi['metadata']['name']!r} is on no node yet", 409)
        where = {"endpoint": endpoint_of_node(node)} if on_endpoint(vmi) else {"node": node}
        return await find_agent(self._client, self._namespace, port=self._port, **where)


async def find_agent(
    client: KubeClient, namespace: str, *, node: str = "", endpoint: str = "", port: int = PORT
) -> AgentAddress:
    """Return where the agent of a kubelet's node listens, or that of an endpoint. Raises :class:`NodeError`."""
    try:
        return await agent_address(client, namespace, node=node, endpoint=endpoint, port=port)
    except HandlerError as error:
        raise NodeError(str(error), error.code) from error


def _path(vmi: Obj) -> str:
    metadata = vmi["metadata"]
    return f"/v1/namespaces/{metadata['namespace']}/virtualmachineinstances/{metadata['name']}"
