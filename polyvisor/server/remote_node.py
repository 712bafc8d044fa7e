"""The node side of the subresource API in a cluster: the node agent of the machine's node, over TLS both ways.

The agent is found by its Pod on that node, and believed because of its certificate, which names the role and not the
node; this process shows one of its own. A stream is a websocket whose messages are the stream's.
"""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from polyvisor.api import names
from polyvisor.api.reading import read_status
from polyvisor.api.resources import PODS
from polyvisor.kube.client import KubeClient
from polyvisor.server.node import ByteStream, NodeError

Obj = dict[str, Any]
PORT = 8186
SECONDS = 30.0
log = logging.getLogger("polyvisor.server")


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
        address = await self._address(vmi)
        try:
            async with httpx.AsyncClient(verify=self._tls, trust_env=False, timeout=SECONDS) as client:
                answer = await client.post(
                    f"https://{address}{_path(vmi)}/ask/{operation}",
                    json=arguments,
                    extensions={"sni_hostname": names.HANDLER_APP},
                    headers={"Host": names.HANDLER_APP},
                )
        except httpx.TransportError as error:
            raise _unreachable(vmi, error) from error
        found = _json(answer.content)
        if answer.status_code != 200:
            raise NodeError(str(found.get("message") or answer.text)[:1000], answer.status_code)
        return found

    async def open(self, vmi: Obj, stream: str, **arguments: Any) -> ByteStream:
        """Open a stream to a machine."""
        address = await self._address(vmi)
        query = urlencode({"arguments": json.dumps(arguments)})
        try:
            connection = await connect(
                f"wss://{address}{_path(vmi)}/open/{stream}?{query}",
                ssl=self._tls,
                server_hostname=names.HANDLER_APP,
                compression=None,
                proxy=None,
                open_timeout=SECONDS,
            )
        except InvalidStatus as error:
            body = error.response.body or b""
            message = _json(bytes(body)).get("message") or body.decode(errors="replace")
            raise NodeError(str(message)[:1000], error.response.status_code) from error
        except (OSError, WebSocketException) as error:
            raise _unreachable(vmi, error) from error
        return RemoteStream(connection)

    async def read_log(self, pod: Obj, container: str, *, follow: bool, tail: int | None) -> AsyncIterator[bytes]:
        """Refuse: the kubelet has the logs of a cluster's Pods."""
        raise NodeError("ask the API server for the log of a Pod", 400)
        yield b""

    async def _address(self, vmi: Obj) -> str:
        node = str(read_status(vmi).get("nodeName") or "")
        if not node:
            raise NodeError(f"machine {vmi['metadata']['name']!r} is on no node yet", 409)
        pods = await self._client.list(
            PODS,
            self._namespace,
            label_selector=f"{names.APP_LABEL}={names.HANDLER_APP}",
            field_selector=f"spec.nodeName={node}",
        )
        for pod in pods:
            address = read_status(pod).get("podIP")
            if address and not pod["metadata"].get("deletionTimestamp"):
                return f"[{address}]:{self._port}" if ":" in address else f"{address}:{self._port}"
        raise NodeError(f"no {names.HANDLER_APP} runs on node {node!r}, so its machines cannot be reached", 503)


def _path(vmi: Obj) -> str:
    metadata = vmi["metadata"]
    return f"/v1/namespaces/{metadata['namespace']}/virtualmachineinstances/{metadata['name']}"


def _json(data: bytes) -> Obj:
    try:
        found = json.loads(data or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _unreachable(vmi: Obj, error: Exception) -> NodeError:
    node = read_status(vmi).get("nodeName")
    return NodeError(
        f"the {names.HANDLER_APP} on node {node!r} cannot be reached: {error or type(error).__name__}", 503
    )
