"""What is asked of an endpoint's host in a cluster: passed on to the endpoint's agent, which has the connection.

The gate in front has asked whether the user may; the agent answers virt-api alone. The routes are those of
:mod:`polyvisor.server.endpoint_doors`, which the agent has.
"""

from __future__ import annotations

import ssl

import httpx
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from polyvisor.api.resources import ENDPOINTS, SUBRESOURCES_GROUP, SUBRESOURCES_VERSIONS
from polyvisor.kube.client import KubeClient
from polyvisor.process.handlers import HandlerError, ask
from polyvisor.server.errors import Refusal, answering
from polyvisor.server.node import NodeError
from polyvisor.server.remote_node import PORT, SECONDS, find_agent

DOORS = ("domains", "adoption", "pools", "networks")
"""What can be asked, by the first word behind the endpoint's name."""


class RemoteEndpoints:
    """The routes. ``tls`` is a client's context that shows this process's pair and believes our authority."""

    def __init__(self, client: KubeClient, namespace: str, tls: ssl.SSLContext, port: int = PORT) -> None:
        self._port = port
        self._client = client
        self._namespace = namespace
        self._tls = tls

    def routes(self) -> list[Route]:
        """Return the routes."""
        bases = [f"/apis/{SUBRESOURCES_GROUP}/{version}/{ENDPOINTS.plural}" for version in SUBRESOURCES_VERSIONS]
        paths = [f"{base}/{{name}}/{door}" for base in bases for door in DOORS]
        paths += [f"{base}/{{name}}/domains/{{domain:path}}" for base in bases]
        return [Route(path, answering(self._pass_on), methods=["GET"]) for path in paths]

    async def _pass_on(self, request: Request) -> Response:
        name = request.path_params["name"]
        try:
            agent = await find_agent(self._client, self._namespace, endpoint=name, port=self._port)
        except NodeError as error:
            raise Refusal(error.code, error.message) from error
        url = httpx.URL(f"https://{agent.address}").copy_with(raw_path=_raw(request))
        try:
            answer, content = await ask(self._tls, agent, "GET", url, SECONDS)
        except HandlerError as error:
            raise Refusal(error.code, str(error)) from error
        except httpx.TransportError as error:
            message = f"the agent of endpoint {name} cannot be reached: {error or type(error).__name__}"
            raise Refusal(503, message) from error
        return Response(content, answer.status_code, media_type=answer.headers.get("content-type"))


def _raw(request: Request) -> bytes:
    raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
    query: bytes = request.scope.get("query_string") or b""
    return raw.partition(b"?")[0] + (b"?" + query if query else b"")
