"""The admission webhooks: AdmissionReview in, AdmissionReview out, over the same pure functions as standalone.

What isn't obvious: the *mutating* webhook refuses too. Kubernetes checks an object against its CRD's schema between
the two webhooks, and a schema's complaint would reach the user in place of ours; refused at the first call, all that
is wrong is told at once and in the words that standalone uses. The validating one looks again, since other
webhooks may have changed the object after the first.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jsonpatch
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from polyvisor.admission import AdmissionContext, Admitted, Operation, admit, guards
from polyvisor.admission.endpoints import still_there
from polyvisor.api import Problem
from polyvisor.api.endpoint_names import on_endpoint
from polyvisor.api.problems import invalid_status
from polyvisor.api.reading import nested
from polyvisor.api.resources import (
    CLONES,
    CLUSTER_INSTANCETYPES,
    CLUSTER_PREFERENCES,
    ENDPOINTS,
    INSTANCETYPES,
    KUBEVIRTS,
    MIGRATIONS,
    POOLS,
    PREFERENCES,
    REFUSED,
    REPLICA_SETS,
    RESTORES,
    SNAPSHOT_CONTENTS,
    SNAPSHOTS,
    VMIS,
    VMS,
    Resource,
)
from polyvisor.kube.client import KubeClient
from polyvisor.kube.errors import ApiError
from polyvisor.kube.lookups import resolve
from polyvisor.process.webhook_paths import MUTATE, VALIDATE
from polyvisor.server.rights import Rights, TooManyQuestions

Obj = dict[str, Any]
SIZES = (INSTANCETYPES, CLUSTER_INSTANCETYPES, PREFERENCES, CLUSTER_PREFERENCES)
REVIEWED = (
    VMS,
    VMIS,
    REPLICA_SETS,
    MIGRATIONS,
    POOLS,
    SNAPSHOTS,
    SNAPSHOT_CONTENTS,
    RESTORES,
    CLONES,
    *SIZES,
    ENDPOINTS,
    KUBEVIRTS,
    *REFUSED,
)
API_VERSION = "admission.k8s.io/v1"
MAX_BODY = 8 * 1024 * 1024
OPERATIONS: dict[str, Operation] = {"CREATE": "CREATE", "UPDATE": "UPDATE", "DELETE": "DELETE"}


class BadReview(Exception):
    """The request is no AdmissionReview that can be answered."""


class Webhooks:
    """The two routes. ``context`` gives the configuration at the time of the call; ``client`` is for what an object
    refers to.
    """

    def __init__(
        self,
        client: KubeClient,
        context: Callable[[], AdmissionContext],
        told: Callable[[str, bool, Obj], None] = lambda *_: None,
        components: frozenset[str] = frozenset(),
    ) -> None:
        """``told`` is called for each answer, with the webhook, whether it allows, and what was asked.

        ``components`` are the users that Polyvisor's own parts are.
        """
        self._components = components
        self._client = client
        self._context = context
        self._told = told

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [Route(MUTATE, self._mutate, methods=["POST"]), Route(VALIDATE, self._validate, methods=["POST"])]

    async def _mutate(self, request: Request) -> Response:
        return await self._answer(request, mutates=True)

    async def _validate(self, request: Request) -> Response:
        return await self._answer(request, mutates=False)

    async def _held(self, asked: Obj) -> list[Problem]:
        """Return why an endpoint whose deletion is asked for has to stay: machines that may be on its host."""
        if asked.get("operation") != "DELETE" or nested(asked, "resource").get("resource") != ENDPOINTS.plural:
            return []
        name = str(asked.get("name"))
        return still_there(name, [one for one in await self._client.list(VMIS) if on_endpoint(one) == name])

    async def _answer(self, request: Request, *, mutates: bool) -> Response:
        try:
            asked = read_review(await request.body())
            rights = Rights(self._client, asked.get("userInfo") or {}, self._components)
            context = replace(self._context(), requester=rights.requester)
            held = await self._held(asked)
            settled = False
            while not settled:
                answer = await resolve(
                    self._client, lambda lookup: review(asked, replace(context, lookup=lookup), held, mutates=mutates)
                )
                settled = await rights.settled()
        except (BadReview, TooManyQuestions) as error:
            return JSONResponse({"message": str(error)}, status_code=400)
        except ApiError as error:
            return JSONResponse({"message": f"what the object refers to cannot be read: {error}"}, status_code=500)
        self._told(MUTATE if mutates else VALIDATE, bool(answer["allowed"]), asked)
        return JSONResponse({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": answer})


def review(request: Obj, context: AdmissionContext, held: Sequence[Problem] = (), *, mutates: bool) -> Obj:
    """Answer the ``request`` of an AdmissionReview with its ``response``; ``held`` is why nothing may be deleted."""
    operation = OPERATIONS.get(str(request.get("operation")))
    if operation is None:
        raise BadReview(f"operation {request.get('operation')!r} is not one that is reviewed here")
    resource = _resource(request)
    obj, old = request.get("object"), request.get("oldObject")
    if not isinstance(obj, dict):
        obj = {}
    old = old if isinstance(old, dict) else None
    given = obj
    if resource == VMIS and not context.requester.ours:
        obj = guards.with_old_status(obj, old)
    found = admit(operation, resource, obj, old, context)
    found = replace(found, problems=[*held, *found.problems])
    answer: Obj = {"uid": request["uid"], "allowed": not found.problems}
    if found.warnings and mutates:
        answer["warnings"] = found.warnings
    if found.problems:
        answer["status"] = invalid_status(resource.kind, resource.group, _name(request, obj), found.problems)
    elif mutates and operation != "DELETE" and (patch := _patch(given, found)):
        answer["patchType"] = "JSONPatch"
        answer["patch"] = base64.b64encode(json.dumps(patch, separators=(",", ":")).encode()).decode()
    return answer


def _patch(obj: Obj, found: Admitted) -> list[Obj]:
    if found.obj == obj:
        return []
    return list(jsonpatch.make_patch(obj, found.obj).patch)


def _name(request: Obj, obj: Obj) -> str:
    return str(request.get("name") or nested(obj, "metadata").get("name") or "")


def _resource(request: Obj) -> Resource:
    asked = request.get("resource") or {}
    wanted = (asked.get("group"), asked.get("version"), asked.get("resource"))
    for resource in REVIEWED:
        if (resource.group, resource.version, resource.plural) == wanted:
            return resource
    raise BadReview(f"{'/'.join(map(str, wanted))} is not reviewed here")


def read_review(body: bytes) -> Obj:
    """Return the ``request`` of an AdmissionReview."""
    if len(body) > MAX_BODY:
        raise BadReview("the review is too large")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadReview(f"the review is not JSON that can be read: {error}") from error
    request = found.get("request") if isinstance(found, dict) else None
    if not isinstance(request, dict) or found.get("apiVersion") != API_VERSION or not request.get("uid"):
        raise BadReview(f"an AdmissionReview of {API_VERSION} with a request is wanted")
    return request
