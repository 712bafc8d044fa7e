"""The node side of the subresource API in a cluster: the node agent of the machine's node, over TLS both ways.

The agent is found by its Pod on that node, or by its endpoint where the node stands for a host without a kubelet, and
believed because of its certificate, which names the role and not the node; this process shows one of its own. A stream
is a websocket whose messages are the stream's.
"""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import AsyncIterator
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from polyvisor.api import names
from polyvisor.api.endpoint_names import ENDPOINT_APP, endpoint_of_node, on_endpoint
from polyvisor.api.node_names import ENDPOINT_LABEL
from polyvisor.api.reading import read_status
from polyvisor.api.resources import PODS
from polyvisor.kube.client import KubeClient
from polyvisor.server.node import ByteStream, NodeError

Obj = dict[str, Any]
PORT = 8186
SECONDS = 30.0
log = logging.getLogger("polyvisor.server")


class AgentAddress(NamedTuple):
    """The role that an agent's certificate names, and where it listens."""

    app: str
    address: str


class RemoteStream:
    """An open websocket to an agent."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def read(self) -> bytes:
        """Return the next message, empty at the end."""
        try:
            data = await self._connection.recv(decode=False)
        except ConnectionClosed:
            return b""
        return data if isinstance(data, bytes) else data.encode()

    async def write(self, data: bytes) -> None:
        """Send a message."""
        try:
            await self._connection.send(data)
        except ConnectionClosed as error:
            raise ConnectionError(str(error)) from error

    async def close(self) -> None:
        """Close both ways."""
        await self._connection.close()


class RemoteNode:
    """Asks the agents. ``tls`` is a client's context that shows this process's pair and believes our authority."""

    def __init__(self, client: KubeClient, namespace: str, tls: ssl.SSLContext, port: int = PORT) -> None:
        self._client = client
        self._namespace = namespace
        self._tls = tls
        self._port = port

    async def ask(self, vmi: Obj, operation: str, **arguments: Any) -> Obj:
        """Do something to a machine, or ask its guest something."""
        agent = await self._agent(vmi)
        try:
            async with httpx.AsyncClient(verify=self._tls, trust_env=False, timeout=SECONDS) as client:
                answer = await client.post(
                    f"https://{agent.address}{_path(vmi)}/ask/{operation}",
                    json=arguments,
                    extensions={"sni_hostname": agent.app},
                    headers={"Host": agent.app},
                )
        except httpx.TransportError as error:
            raise _unreachable(vmi, agent, error) from error
        found = _json(answer.content)
        if answer.status_code != 200:
            raise NodeError(str(found.get("message") or answer.text)[:1000], answer.status_code)
        return found

    async def open(self, vmi: Obj, stream: str, **arguments: Any) -> ByteStream:
        """Open a stream to a machine."""
        agent = await self._agent(vmi)
        query = urlencode({"arguments": json.dumps(arguments)})
        try:
            connection = await connect(
                f"wss://{agent.address}{_path(vmi)}/open/{stream}?{query}",
                ssl=self._tls,
                server_hostname=agent.app,
                compression=None,
                proxy=None,
                open_timeout=SECONDS,
            )
        except InvalidStatus as error:
            body = error.response.body or b""
            message = _json(bytes(body)).get("message") or body.decode(errors="replace")
            raise NodeError(str(message)[:1000], error.response.status_code) from error
        except (OSError, WebSocketException) as error:
            raise _unreachable(vmi, agent, error) from error
        return RemoteStream(connection)

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
    app = ENDPOINT_APP if endpoint else names.HANDLER_APP
    labels = f"{names.APP_LABEL}={app}" + (f",{ENDPOINT_LABEL}={endpoint}" if endpoint else "")
    fields = None if endpoint else f"spec.nodeName={node}"
    for pod in await client.list(PODS, namespace, label_selector=labels, field_selector=fields):
        address = read_status(pod).get("podIP")
        if address and not pod["metadata"].get("deletionTimestamp"):
            return AgentAddress(app, f"[{address}]:{port}" if ":" in address else f"{address}:{port}")
    where = f"for endpoint {endpoint}" if endpoint else f"on node {node!r}"
    raise NodeError(f"no {app} runs {where}, so its machines cannot be reached", 503)


def _path(vmi: Obj) -> str:
    metadata = vmi["metadata"]
    return f"/v1/namespaces/{metadata['namespace']}/virtualmachineinstances/{metadata['name']}"


def _json(data: bytes) -> Obj:
    try:
        found = json.loads(data or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _unreachable(vmi: Obj, agent: AgentAddress, error: Exception) -> NodeError:
    node = read_status(vmi).get("nodeName")
    return NodeError(f"the {agent.app} of node {node!r} cannot be reached: {error or type(error).__name__}", 503)
