"""Answers of the subresource API that are not success: Kubernetes ``Status`` objects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from polyvisor.kube.errors import ApiError
from polyvisor.server.node import NodeError

GROUP = "kubevirt.io"
REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    413: "RequestEntityTooLarge",
    500: "InternalError",
    502: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class Refusal(Exception):
    """A request that is answered with a ``Status``."""

    def __init__(self, code: int, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details

    def to_obj(self) -> dict[str, Any]:
        """Return the ``Status``."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": REASONS.get(self.code, "InternalError"),
            "code": self.code,
        }
        if self.details:
            status["details"] = self.details
        return status

    def response(self) -> JSONResponse:
        """Return the HTTP answer."""
        return JSONResponse(self.to_obj(), self.code)


def conflict(singular: str, name: str, why: str) -> Refusal:
    """The machine is not in a state in which that can be done."""
    return Refusal(
        409,
        f'Operation cannot be fulfilled on {singular}.{GROUP} "{name}": {why}',
        {"name": name, "group": GROUP, "kind": singular},
    )


def not_found(singular: str, name: str) -> Refusal:
    """There is no such machine."""
    return Refusal(404, f'{singular}.{GROUP} "{name}" not found', {"name": name, "group": GROUP, "kind": singular})


def from_api(error: ApiError) -> Refusal:
    """Pass on what the API server said."""
    if error.unreachable:
        return Refusal(503, error.message)
    return Refusal(error.code or 500, error.message, dict(error.status.get("details") or {}) or None)


def refusal_of(error: Refusal | ApiError | NodeError) -> Refusal:
    """Return the refusal that a failure comes to."""
    if isinstance(error, Refusal):
        return error
    return from_api(error) if isinstance(error, ApiError) else Refusal(error.code, error.message)


def answering(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Have a handler's failures answered with their ``Status``."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except (Refusal, ApiError, NodeError) as error:
            return refusal_of(error).response()

    return answer
