"""``virtualmachines/log`` of a standalone installation: what the last instance of a machine left, once its Pod is gone.

The path is Polyvisor's own. In a cluster a Pod's log goes with the Pod, as everywhere in Kubernetes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from polyvisor.api.names import CONSOLE_CONTAINER
from polyvisor.api.reading import nested
from polyvisor.api.resources import SUBRESOURCES_GROUP, SUBRESOURCES_VERSIONS, VMS
from polyvisor.kube import KubeClient
from polyvisor.server import log_options
from polyvisor.server.errors import Refusal, answering

PATH = "namespaces/{namespace}/virtualmachines/{name}/log"


class Node(Protocol):
    """What is asked of the node."""

    def read_last_log(self, uuid: str, container: str, *, tail: int | None) -> AsyncIterator[bytes] | None:
        """Return what the last instance of a machine wrote, by its domain's UUID; None if that was not kept."""


class LastLogs:
    """The route."""

    def __init__(self, client: KubeClient, node: Node) -> None:
        self._client = client
        self._node = node

    def routes(self) -> list[Route]:
        """Return the routes of all versions."""
        paths = [f"/apis/{SUBRESOURCES_GROUP}/{version}/{PATH}" for version in SUBRESOURCES_VERSIONS]
        return [Route(path, answering(self._log), methods=["GET"]) for path in paths]

    async def _log(self, request: Request) -> Response:
        name, namespace = request.path_params["name"], request.path_params["namespace"]
        vm = await self._client.get(VMS, name, namespace)
        asked = log_options.parse(request.query_params)
        uuid = _uuid(vm)
        chunks = self._node.read_last_log(uuid, asked.container or CONSOLE_CONTAINER, tail=asked.tail) if uuid else None
        if chunks is None:
            raise Refusal(404, f"no log of an earlier start of virtual machine {name!r} is kept")
        return StreamingResponse(log_options.limited(chunks, asked.limit), media_type="text/plain")


def _uuid(vm: dict[str, Any]) -> str:
    domain = vm["spec"]["template"]["spec"].get("domain") or {}
    return str(nested(domain, "firmware").get("uuid") or "")
