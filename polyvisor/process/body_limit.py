"""A limit on the length of requests' bodies, before anything reads them.

Frameworks read a body whole and let their callers look at its length afterwards, so a stranger could fill a process's
memory. What isn't obvious: a client need not tell the length, and may tell a wrong one, so bytes are counted, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MIB = 1 << 20


class _TooLarge(Exception):
    """More bytes came than are accepted."""


class BodyLimit:
    """ASGI middleware. ``limit_of`` gives the number of bytes that are accepted for a path."""

    def __init__(self, app: ASGIApp, limit_of: Callable[[str], int]) -> None:
        self._app = app
        self._limit_of = limit_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, unless the body is too long."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit, come, begun = self._limit_of(scope["path"]), 0, False
        if _told(scope) > limit:
            await _refusal(limit)(scope, receive, send)
            return

        async def counted() -> Message:
            nonlocal come
            message = await receive()
            come += len(message.get("body", b""))
            if come > limit:
                raise _TooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, counted, noted)
        except _TooLarge:
            if begun:
                raise
            await _refusal(limit)(scope, receive, send)


def _told(scope: Scope) -> int:
    """Return the length that a request tells; 0 if it tells none that can be read."""
    found = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return int(found) if found.isdigit() and len(found) < 20 else 0


def _refusal(limit: int) -> JSONResponse:
    status: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f"the request's body is longer than {limit} bytes, which are accepted",
        "reason": "RequestEntityTooLarge",
        "code": 413,
    }
    return JSONResponse(status, 413, headers={"Connection": "close"})
