"""Who may ask: bearer tokens, compared in constant time, before anything else looks at a request."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import status_object

UPLOAD_PATHS = frozenset(["/v1beta1/upload", "/v1beta1/upload-async"])
"""Where images are uploaded, with a token of another kind, for one claim and a short time."""
OPEN_PATHS = frozenset(["/version", "/version/", "/healthz", "/livez", "/readyz"]) | UPLOAD_PATHS
"""What anybody may ask: health checks carry no token, and what takes uploads looks at its own."""


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
        user = self._user(scope)
        if user is not None or (scope["type"] == "http" and scope["path"] in OPEN_PATHS):
            scope.setdefault("state", {})["user"] = user
            await self._app(scope, receive, send)
            return
        prefix = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
        if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 4401})
            return
        body = json.dumps(status_object(401, "Unauthorized", "Unauthorized")).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"www-authenticate", b"Bearer"),
        ]
        await send({"type": f"{prefix}.start", "status": 401, "headers": headers})
        await send({"type": f"{prefix}.body", "body": body})
