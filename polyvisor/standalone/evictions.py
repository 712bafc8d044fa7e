"""``pods/eviction`` of a standalone installation: what `kubectl drain` asks for each launcher Pod.

The rule is that of the cluster's webhook (:mod:`polyvisor.server.evictions`); a Pod that may go is deleted, which shuts
its guest down.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from polyvisor.api import Obj
from polyvisor.api.resources import PODS
from polyvisor.kube import KubeClient
from polyvisor.server.errors import answering
from polyvisor.server.evictions import Evictions
from polyvisor.server.subresources_machines import body_of
from polyvisor.standalone.apiserver.errors import StatusError, status_object
from polyvisor.standalone.apiserver.negotiation import JsonResponse

PATH = "/api/v1/namespaces/{namespace}/pods/{name}/eviction"


class PodEvictions:
    """The route. ``configuration`` gives the KubeVirt object's configuration at the time of the call."""

    def __init__(self, client: KubeClient, configuration: Callable[[], Obj]) -> None:
        self._client = client
        self._rule = Evictions(client, configuration)

    def routes(self) -> list[Route]:
        """Return the route."""
        return [Route(PATH, answering(self._evict), methods=["POST"])]

    async def _evict(self, request: Request) -> Response:
        name, namespace = request.path_params["name"], request.path_params["namespace"]
        await self._client.get(PODS, name, namespace)
        options = (await body_of(request)).get("deleteOptions") or {}
        dry = "All" in (options.get("dryRun") or ()) or request.query_params.get("dryRun") == "All"
        if why := await self._rule.review({"name": name, "namespace": namespace, "dryRun": dry}):
            raise StatusError(429, "TooManyRequests", why)
        if not dry:
            grace = options.get("gracePeriodSeconds")
            await self._client.delete(PODS, name, namespace, grace_period_seconds=grace)
        return JsonResponse(status_object(201, "", ""), 201)
