"""Who asks, where the API server stands in front: its word for the user, believed because of its certificate.

Kubernetes' aggregator has checked the user and sends the name in headers. Anybody can send headers; what counts is
that the connection shows a client certificate of the authority that ``extension-apiserver-authentication`` names, with
one of the names that it allows. Whether that user may do it is asked of the API server again (SubjectAccessReview), so
that holding that certificate is not the same as being allowed everything.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from polyvisor.api.cluster_resources import SUBJECT_ACCESS_REVIEWS
from polyvisor.api.resources import ENDPOINTS, SUBRESOURCES_GROUP
from polyvisor.kube.client import KubeClient
from polyvisor.kube.errors import ApiError
from polyvisor.server.errors import Refusal
from polyvisor.server.openapi import OPENAPI

Obj = dict[str, Any]
PREFIXES = (f"/apis/{SUBRESOURCES_GROUP}", f"{OPENAPI}/")
VERBS = {"GET": "get", "PUT": "update", "POST": "create", "PATCH": "patch", "DELETE": "delete"}
REMEMBERED_SECONDS = 10.0
MOST_REMEMBERED = 4096
log = logging.getLogger("polyvisor.server")


@dataclass(frozen=True)
class FrontProxy:
    """What ``kube-system/extension-apiserver-authentication`` says."""

    authorities: str = ""
    names: tuple[str, ...] = ()
    user_headers: tuple[str, ...] = ("X-Remote-User",)
    group_headers: tuple[str, ...] = ("X-Remote-Group",)
    extra_prefixes: tuple[str, ...] = ("X-Remote-Extra-",)

    @classmethod
    def of(cls, configmap: Obj) -> FrontProxy:
        """Read the ConfigMap; what it lacks has Kubernetes' defaults."""
        data = configmap.get("data") or {}

        def listed(key: str, default: tuple[str, ...]) -> tuple[str, ...]:
            try:
                found = json.loads(data.get(f"requestheader-{key}") or "null")
            except ValueError:
                return default
            return tuple(str(one) for one in found) if isinstance(found, list) and found else default

        return cls(
            str(data.get("requestheader-client-ca-file") or ""),
            listed("allowed-names", ()),
            listed("username-headers", cls.user_headers),
            listed("group-headers", cls.group_headers),
            listed("extra-headers-prefix", cls.extra_prefixes),
        )


@dataclass(frozen=True)
class User:
    """Who asks."""

    name: str
    groups: tuple[str, ...] = ()
    extra: dict[str, list[str]] = field(default_factory=dict, hash=False)


def user_of(headers: Headers, peer: str, proxy: FrontProxy) -> User:
    """Return the user that a trusted front proxy names; raise :class:`Refusal` (401) where there is none to trust."""
    if not proxy.authorities or not peer or (proxy.names and peer not in proxy.names):
        raise Refusal(401, "Unauthorized")
    name = next((value for header in proxy.user_headers if (value := headers.get(header, ""))), "")
    if not name:
        raise Refusal(401, "Unauthorized")
    groups = [value for header in proxy.group_headers for value in headers.getlist(header)]
    extra: dict[str, list[str]] = {}
    for key, value in headers.items():
        for prefix in proxy.extra_prefixes:
            if key.lower().startswith(prefix.lower()):
                extra.setdefault(unquote(key[len(prefix) :]).lower(), []).append(value)
    return User(name, tuple(groups), extra)


def attributes_of(method: str, path: str) -> Obj | None:
    """Return what a request is about, as a SubjectAccessReview has it; None for discovery, which is everybody's."""
    parts = [unquote(part) for part in path.split("/") if part][2:]
    if len(parts) >= 2 and parts[1] == ENDPOINTS.plural:
        found = {"group": SUBRESOURCES_GROUP, "version": parts[0], "namespace": "", "resource": parts[1]}
        found |= {"verb": VERBS.get(method, method.lower()), "name": parts[2] if parts[2:] else ""}
        return found | ({"subresource": parts[3]} if parts[3:] else {})
    if len(parts) < 4 or parts[1] != "namespaces":
        return None
    version, _, namespace, resource, *rest = parts
    found = {
        "group": SUBRESOURCES_GROUP,
        "version": version,
        "namespace": namespace,
        "resource": resource,
        "verb": VERBS.get(method, method.lower()),
    }
    if rest:
        found["name"] = rest[0]
    if rest[1:]:
        found["subresource"] = "/".join(rest[1:2] if rest[1] == "portforward" else rest[1:])
    return found


class Authorizer:
    """Asks the API server whether a user may do something, and remembers a yes for some seconds."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._yes: dict[str, float] = {}

    async def check(self, user: User, attributes: Obj) -> None:
        """Return if it is allowed; raise :class:`Refusal` otherwise."""
        spec = {"user": user.name, "groups": list(user.groups), "extra": user.extra, "resourceAttributes": attributes}
        key = json.dumps(spec, sort_keys=True)
        if self._yes.get(key, 0.0) > time.monotonic():
            return
        review = {"apiVersion": SUBJECT_ACCESS_REVIEWS.api_version, "kind": SUBJECT_ACCESS_REVIEWS.kind, "spec": spec}
        try:
            answer = await self._client.create(SUBJECT_ACCESS_REVIEWS, review)
        except ApiError as error:
            log.warning("a SubjectAccessReview failed: %s", error)
            raise Refusal(503, f"whether {user.name!r} may do that cannot be found out: {error.message}") from error
        status = answer.get("status") or {}
        if not status.get("allowed"):
            raise _forbidden(user, attributes, str(status.get("reason") or ""))
        if len(self._yes) >= MOST_REMEMBERED:
            self._yes.clear()
        self._yes[key] = time.monotonic() + REMEMBERED_SECONDS


def _forbidden(user: User, asked: Obj, reason: str) -> Refusal:
    resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
    name = asked.get("name", "")
    where = f'in the namespace "{asked["namespace"]}"' if asked["namespace"] else "at the cluster scope"
    message = (
        f'{asked["resource"]}.{asked["group"]} "{name}" is forbidden: User "{user.name}" cannot {asked["verb"]} '
        f'resource "{resource}" in API group "{asked["group"]}" {where}'
    )
    details = {"name": name, "group": asked["group"], "kind": asked["resource"]}
    return Refusal(403, f"{message}: {reason}" if reason else message, details)


class Gate:
    """ASGI middleware before the subresource API; other paths pass."""

    def __init__(self, app: ASGIApp, proxy: Callable[[], FrontProxy], authorizer: Authorizer) -> None:
        self._app = app
        self._proxy = proxy
        self._authorizer = authorizer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then pass on."""
        if scope["type"] in ("http", "websocket") and scope["path"].startswith(PREFIXES):
            try:
                user = user_of(Headers(scope=scope), str(scope.get("state", {}).get("peer") or ""), self._proxy())
                attributes = attributes_of(scope.get("method", "GET"), scope["path"])
                if attributes is not None:
                    await self._authorizer.check(user, attributes)
            except Refusal as refusal:
                await _deny(scope, receive, send, refusal)
                return
            scope.setdefault("state", {})["user"] = user.name
        await self._app(scope, receive, send)


async def _deny(scope: Scope, receive: Receive, send: Send, refusal: Refusal) -> None:
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(refusal.response())
    else:
        request = Request(scope, receive)
        await refusal.response()(request.scope, receive, send)
