"""The part of a kubelet's interface that an endpoint's agent has: logs of launcher Pods.

The API server is the client. It shows a certificate of the cluster's authority for clients, or a token, and the API
server itself is asked whether that user may reach this Node, as a kubelet does. All else that a kubelet can be asked
for is answered with why it is not there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from polyvisor.agent.platform.endpoint.access import EndpointAccess
from polyvisor.agent.platform.endpoint.agent import EndpointAgent
from polyvisor.api.cluster_resources import SUBJECT_ACCESS_REVIEWS, TOKEN_REVIEWS
from polyvisor.api.names import COMPUTE_CONTAINER
from polyvisor.api.reading import nested, read_status
from polyvisor.kube.client import KubeClient
from polyvisor.kube.errors import ApiError

ELSEWHERE = (
    "no container runs in this Pod: it stands for a virtual machine on a hypervisor host. Its console and log are "
    "there: polyvisor console, polyvisor logs"
)
MAX_TOKEN = 16 * 1024
MAX_AT_ONCE = 4
"""How many strangers are judged at the same time."""
TIMES = ("timestamps", "sinceSeconds", "sinceTime")
log = logging.getLogger("polyvisor.kubelet")


class KubeletPort:
    """The application. ``client`` may create TokenReviews and SubjectAccessReviews, which a Node may."""

    def __init__(self, agent: EndpointAgent, client: KubeClient, endpoint: str, node: str) -> None:
        self._agent = agent
        self._client = client
        self._endpoint = endpoint
        self._node = node
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)

    def application(self) -> ASGIApp:
        """Return the application."""
        logs = Route("/containerLogs/{namespace}/{pod}/{container}", self._logs, methods=["GET"])
        return Starlette(routes=[logs, Route("/{rest:path}", self._other, methods=["GET", "POST", "PUT", "DELETE"])])

    async def _other(self, request: Request) -> Response:
        return await self._refused(request) or PlainTextResponse(ELSEWHERE, status_code=501)

    async def _logs(self, request: Request) -> Response:
        if refused := await self._refused(request):
            return refused
        where, asked = request.path_params, request.query_params
        for name in TIMES:
            if asked.get(name) not in (None, "", "false"):
                message = f"{name} is not supported: the console's log does not have the time of a line; use --tail"
                return PlainTextResponse(message, status_code=400)
        if asked.get("previous") in ("true", "1"):
            return PlainTextResponse("previous is not supported: one log is kept", status_code=400)
        pod, keeper = self._agent.pod(where["namespace"], where["pod"]), self._agent.keeper(self._endpoint)
        known = {one["name"] for one in nested(pod or {}, "spec").get("containers") or []}
        if pod is None or keeper is None or where["container"] not in known:
            what = f"{where['namespace']}/{where['pod']} with a container {where['container']}"
            return PlainTextResponse(f"there is no Pod {what} on this Node", status_code=404)
        if where["container"] == COMPUTE_CONTAINER:
            return PlainTextResponse(f"{ELSEWHERE}\n")
        access = EndpointAccess(keeper, self._agent)
        tail, limit = _number(asked.get("tailLines")), _number(asked.get("limitBytes"))
        chunks = access.read_log(pod, where["container"], follow=asked.get("follow") in ("true", "1"), tail=tail)
        return StreamingResponse(_limited(chunks, limit), media_type="text/plain")

    async def _refused(self, request: Request) -> Response | None:
        """Return the refusal of somebody who may not reach this Node."""
        try:
            async with self._turns:
                user = await self._user(request)
                if user is None:
                    return PlainTextResponse("who are you?", status_code=401)
                if await self._may(user):
                    return None
        except ApiError as error:
            log.warning("a client could not be judged: %s", error)
            return PlainTextResponse("the API server cannot be asked who you are", status_code=503)
        message = f"user {str(user.get('username'))[:100]} may not get nodes/proxy of {self._node}"
        return PlainTextResponse(message, status_code=403)

    async def _user(self, request: Request) -> dict[str, Any] | None:
        state = request.scope["state"]
        if state.get("peer"):
            return {"username": state["peer"], "groups": [*state.get("peer_groups", ()), "system:authenticated"]}
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip() or len(token) > MAX_TOKEN:
            return None
        spec = {"token": token.strip()}
        review = {"apiVersion": TOKEN_REVIEWS.api_version, "kind": TOKEN_REVIEWS.kind, "spec": spec}
        status = read_status(await self._client.create(TOKEN_REVIEWS, review))
        return dict(status.get("user") or {}) if status.get("authenticated") is True else None

    async def _may(self, user: dict[str, Any]) -> bool:
        attributes = {"verb": "get", "version": "v1", "resource": "nodes", "subresource": "proxy", "name": self._node}
        spec = {
            "user": user.get("username") or "",
            "groups": user.get("groups") or [],
            "uid": user.get("uid") or "",
            "extra": user.get("extra") or {},
            "resourceAttributes": attributes,
        }
        kinds = SUBJECT_ACCESS_REVIEWS
        review = {"apiVersion": kinds.api_version, "kind": kinds.kind, "spec": spec}
        return read_status(await self._client.create(kinds, review)).get("allowed") is True


async def _limited(chunks: AsyncIterator[bytes], limit: int | None) -> AsyncIterator[bytes]:
    left = limit
    async for chunk in chunks:
        yield chunk if left is None else chunk[:left]
        if left is not None:
            left -= len(chunk)
            if left <= 0:
                return


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None
