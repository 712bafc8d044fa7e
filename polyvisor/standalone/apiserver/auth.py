"""Who may ask: bearer tokens, compared in constant time, before anything else looks at a request.

Everybody who has a token may do everything, so a request that asks to be judged as somebody else (impersonation) is
refused: answering it with all rights would tell the client that the other user has them.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Mapping
from contextvars import ContextVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import status_object

CURRENT_USER: ContextVar[str] = ContextVar("user", default="")
"""Who has sent the request that is being answered; empty: nobody has, the server itself is at work."""
UPLOAD_PATHS = frozenset(["/v1beta1/upload", "/v1beta1/upload-async"])
"""Where images are uploaded, with a token of another kind, for one claim and a short time."""
OPEN_PATHS = frozenset(["/version", "/version/", "/healthz", "/livez", "/readyz"]) | UPLOAD_PATHS
"""What anybody may ask: health checks carry no token, and what takes uploads looks at its own."""


GROUPS = ("system:masters", "system:authenticated")
"""The groups of everybody who has a token."""
IMPERSONATION = b"impersonate-"
NO_IMPERSONATION = (
    "impersonation is not supported here: a standalone installation has no users other than those who hold its token; "
    "repeat the request without --as, --as-group and --as-uid"
)
CACHING = (b"cache-control", b"no-cache, private")


class Authentication:
    """ASGI middleware that lets through only who shows a token. The user's name goes to ``scope["state"]["user"]``."""

    def __init__(self, app: ASGIApp, tokens: Mapping[str, str] | Iterable[str]) -> None:
        self._app = app
        named = tokens.items() if isinstance(tokens, Mapping) else ((token, "polyvisor:admin") for token in tokens)
        self._tokens = [(token.encode(), user) for token, user in named if token]

    def _user(self, scope: Scope) -> str | None:
        given = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                kind, _, rest = value.partition(b" ")
                given = rest.strip() if kind.lower() == b"bearer" else b""
        found = None
        for token, user in self._tokens:
            if hmac.compare_digest(token, given):
                found = user
        return found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then pass on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        send = _uncached(send)
        user = self._user(scope)
        if user is None and not (scope["type"] == "http" and scope["path"] in OPEN_PATHS):
            await _refuse(scope, send, 401, "Unauthorized", "Unauthorized")
        elif any(name.startswith(IMPERSONATION) for name, _ in scope["headers"]):
            await _refuse(scope, send, 403, "Forbidden", NO_IMPERSONATION)
        else:
            scope.setdefault("state", {})["user"] = user
            CURRENT_USER.set(user or "anonymous")
            await self._app(scope, receive, send)


def _uncached(send: Send) -> Send:
    """Mark answers as Kubernetes does: objects and Secrets belong in no cache on the way."""

    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), CACHING]}
        await send(message)

    return marked


async def _refuse(scope: Scope, send: Send, code: int, reason: str, text: str) -> None:
    prefix = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 4000 + code})
        return
    body = json.dumps(status_object(code, reason, text)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if code == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": f"{prefix}.start", "status": code, "headers": headers})
    await send({"type": f"{prefix}.body", "body": body})
