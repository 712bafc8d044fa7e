"""The webhook that is asked before somebody enters a launcher Pod: ``pods/exec`` and ``pods/attach``.

Whoever may run commands in the Pods of a namespace would be root with all privileges on the node in a launcher that has
them. So a Pod of a driver that isolates its guests less, or with a privileged container, is entered by those who may
``use`` that driver there, as a machine with it is made by them. Launchers without privileges are entered as other Pods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from polyvisor.admission.context import Access
from polyvisor.admission.isolation import GROUP, RESOURCE, VERB
from polyvisor.api.launcher_pods import made_for
from polyvisor.api.names import CREATED_BY_LABEL
from polyvisor.api.reading import labels_of, nested
from polyvisor.api.resources import PODS
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.isolation import isolated
from polyvisor.kube import ApiError, KubeClient
from polyvisor.process.webhook_paths import ENTER
from polyvisor.server.rights import review_access
from polyvisor.server.webhooks import API_VERSION, BadReview, read_review

Obj = dict[str, Any]
WAYS = frozenset(["exec", "attach"])
CONTAINERS = ("containers", "initContainers", "ephemeralContainers")


class Entering:
    """The route."""

    def __init__(
        self, client: KubeClient, drivers: DriverRegistry, told: Callable[[str, bool], None] = lambda *_: None
    ) -> None:
        self._client = client
        self._drivers = drivers
        self._told = told

    def routes(self) -> list[Route]:
        """Return the route."""
        return [Route(ENTER, self._enter, methods=["POST"])]

    async def _enter(self, request: Request) -> Response:
        try:
            asked = read_review(await request.body())
        except BadReview as error:
            return JSONResponse({"message": str(error)}, status_code=400)
        if asked.get("operation") != "CONNECT" or asked.get("subResource") not in WAYS:
            return JSONResponse({"message": "a review of a connection to pods/exec or attach is wanted"}, 400)
        why_not = await self.review(asked)
        answer: Obj = {"uid": asked["uid"], "allowed": not why_not}
        if why_not:
            answer["status"] = {"code": 403, "reason": "Forbidden", "message": why_not}
        self._told(ENTER, not why_not)
        return JSONResponse({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": answer})

    async def review(self, request: Obj) -> str:
        """Return why a review's user may not enter its Pod; empty if nothing speaks against it."""
        name, namespace = str(request.get("name")), str(request.get("namespace"))
        user = request.get("userInfo") or {}
        try:
            pod = await self._client.get(PODS, name, namespace)
            if CREATED_BY_LABEL not in labels_of(pod):
                return ""
            driver = made_for(pod)
            if not self._is_weak(driver) and not any(_privileged(pod)):
                return ""
            if await review_access(self._client, user, Access(VERB, GROUP, RESOURCE, namespace, driver)):
                return ""
        except ApiError as error:
            return "" if error.not_found else f"Pod {namespace}/{name} cannot be looked at: {error}"
        return (
            f"Pod {namespace}/{name} runs a machine of driver {driver or 'unknown'}, whose Pods have privileges on "
            f"their node: user {str(user.get('username'))[:100]!r} needs the right to {VERB} "
            f"{RESOURCE}.{GROUP}/{driver or '*'}"
        )

    def _is_weak(self, driver: str) -> bool:
        found = self._drivers.get(driver)
        return found is None or not isolated(found)


def _privileged(pod: Obj) -> Iterator[bool]:
    for kind in CONTAINERS:
        for container in pod["spec"].get(kind) or []:
            yield bool(nested(container, "securityContext").get("privileged"))
