"""Reaching the agents of nodes, over TLS both ways: by the Pod of an agent on its node, or by its endpoint.

An agent is believed because of its certificate, which names the role and not the node; this process shows one of its
own. A stream is a websocket whose messages are the stream's.
"""

from __future__ import annotations

import json
import ssl
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from polyvisor.api import Obj, names
from polyvisor.api.endpoint_names import ENDPOINT_APP
from polyvisor.api.node_names import ENDPOINT_LABEL
from polyvisor.api.reading import read_status
from polyvisor.api.resources import PODS
from polyvisor.kube.client import KubeClient
from polyvisor.process.kept import KeptPair
from polyvisor.process.pairs import Pair

PORT = 8186
SECONDS = 30.0
MAX_TEXT = 1000
MAX_ANSWER = 16 * 1024 * 1024


class HandlerError(Exception):
    """An agent refused or cannot be reached; ``code`` is HTTP's."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


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


class AgentAddress(NamedTuple):
    """The role that an agent's certificate names, and where it listens."""

    app: str
    address: str


class Peers:
    """The way to agents. ``tls`` is a client's context that shows this process's pair."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls

    async def post(self, agent: AgentAddress, path: str, body: Obj, seconds: float = SECONDS) -> Obj:
        """Ask an agent for something; return its answer. Raises :class:`HandlerError`."""
        try:
            answer, content = await ask(self._tls, agent, "POST", f"https://{agent.address}{path}", seconds, body)
        except httpx.TransportError as error:
            raise _unreachable(agent, error) from error
        found = _json(content)
        if answer.status_code != 200:
            message = found.get("message") or content.decode(errors="replace")
            raise HandlerError(str(message)[:MAX_TEXT], answer.status_code)
        return found

    async def open(self, agent: AgentAddress, path: str, arguments: Obj) -> RemoteStream:
        """Open a stream at an agent. Raises :class:`HandlerError`."""
        query = urlencode({"arguments": json.dumps(arguments)})
        try:
            connection = await connect(
                f"wss://{agent.address}{path}?{query}",
                ssl=self._tls,
                server_hostname=agent.app,
                compression=None,
                proxy=None,
                open_timeout=SECONDS,
            )
        except InvalidStatus as error:
            body = error.response.body or b""
            message = _json(bytes(body)).get("message") or body.decode(errors="replace")
            raise HandlerError(str(message)[:MAX_TEXT], error.response.status_code) from error
        except (OSError, WebSocketException) as error:
            raise _unreachable(agent, error) from error
        return RemoteStream(connection)


async def ask(
    tls: ssl.SSLContext, agent: AgentAddress, method: str, url: httpx.URL | str, seconds: float, body: Obj | None = None
) -> tuple[httpx.Response, bytes]:
    """Ask an agent for something; return its answer and the answer's content, of at most :data:`MAX_ANSWER` bytes.

    An agent is believed as far as its certificate goes, and its node may be somebody else's by now: an answer that is
    longer is not read. Raises :class:`httpx.TransportError`, and :class:`HandlerError` for such an answer.
    """
    content = bytearray()
    async with (
        httpx.AsyncClient(verify=tls, trust_env=False, timeout=seconds) as client,
        client.stream(
            method, url, json=body, extensions={"sni_hostname": agent.app}, headers={"Host": agent.app}
        ) as answer,
    ):
        async for piece in answer.aiter_raw():
            content += piece
            if len(content) > MAX_ANSWER:
                raise HandlerError(f"the {agent.app} at {agent.address} answers with more than {MAX_ANSWER} bytes", 502)
    return answer, bytes(content)


class Handlers:
    """The agents of a cluster's nodes, by the names of these."""

    def __init__(self, client: KubeClient, namespace: str, tls: ssl.SSLContext) -> None:
        self._client = client
        self._namespace = namespace
        self._peers = Peers(tls)

    async def post(self, node: str, path: str, body: Obj, seconds: float = SECONDS) -> Obj:
        """Ask the agent of a node for something; return its answer. Raises :class:`HandlerError`."""
        return await self._peers.post(await self._agent(node), path, body, seconds)

    async def open(self, node: str, path: str, arguments: Obj) -> RemoteStream:
        """Open a stream at the agent of a node. Raises :class:`HandlerError`."""
        return await self._peers.open(await self._agent(node), path, arguments)

    async def address(self, node: str) -> str:
        """Return where the agent of a node listens, as ``HOST:PORT``."""
        return (await agent_address(self._client, self._namespace, node=node)).address

    async def _agent(self, node: str) -> AgentAddress:
        return AgentAddress(names.HANDLER_APP, await self.address(node))


async def agent_address(
    client: KubeClient, namespace: str, *, node: str = "", endpoint: str = "", port: int = PORT
) -> AgentAddress:
    """Return where the agent of a kubelet's node listens, or that of an endpoint. Raises :class:`HandlerError`."""
    app = ENDPOINT_APP if endpoint else names.HANDLER_APP
    labels = f"{names.APP_LABEL}={app}" + (f",{ENDPOINT_LABEL}={endpoint}" if endpoint else "")
    fields = None if endpoint else f"spec.nodeName={node}"
    for pod in await client.list(PODS, namespace, label_selector=labels, field_selector=fields):
        address = read_status(pod).get("podIP")
        if address and not pod["metadata"].get("deletionTimestamp"):
            return AgentAddress(app, f"[{address}]:{port}" if ":" in address else f"{address}:{port}")
    where = f"for endpoint {endpoint}" if endpoint else f"on node {node!r}"
    raise HandlerError(f"no {app} runs {where}, so its machines cannot be reached", 503)


def client_context(ours: KeptPair) -> ssl.SSLContext:
    """Return a client's context that shows a pair and believes the authorities beside it, now and when they change."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def believe(_: Pair, authorities: bytes) -> None:
        context.load_verify_locations(cadata=authorities.decode())

    ours.follow(believe)
    ours.shown_by(context)
    return context


def _json(data: bytes) -> Obj:
    try:
        found: Any = json.loads(data or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _unreachable(agent: AgentAddress, error: Exception) -> HandlerError:
    return HandlerError(f"the {agent.app} at {agent.address} cannot be reached: {error or type(error).__name__}", 503)
