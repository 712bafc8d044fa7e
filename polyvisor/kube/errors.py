"""What goes wrong in a call to the API server, as one exception type that carries the server's ``Status``.

A server that cannot be reached is an ``ApiError`` too (code 0, reason ``Unreachable``), so that a caller has one
thing to catch and a loop can treat "down" and "busy" alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polyvisor.api.reading import nested

UNREACHABLE = "Unreachable"
MAX_TEXT = 400


class ApiError(Exception):
    """The API server refused a call, or could not be asked.

    ``code`` is the HTTP status (0 when there was none), ``reason`` Kubernetes' word for it (``NotFound``,
    ``Conflict``, ``Invalid``, ...), ``status`` the whole ``Status`` object with its causes.
    """

    def __init__(self, code: int, reason: str, message: str, status: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.status: Mapping[str, Any] = status or {}

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return f"ApiError({self.code}, {self.reason!r}, {self.message!r})"

    @property
    def causes(self) -> list[Mapping[str, Any]]:
        """The single problems of an ``Invalid`` answer: ``field``, ``reason`` and ``message`` of each."""
        return list(nested(self.status, "details").get("causes") or [])

    @property
    def not_found(self) -> bool:
        """The object, or the kind, does not exist."""
        return self.code == 404

    @property
    def already_exists(self) -> bool:
        """An object of that name is there already."""
        return self.code == 409 and self.reason == "AlreadyExists"

    @property
    def conflict(self) -> bool:
        """The object has changed since it was read, or another field manager owns a field."""
        return self.code == 409 and self.reason != "AlreadyExists"

    @property
    def expired(self) -> bool:
        """The resourceVersion or continue token is too old: list again."""
        return self.code == 410

    @property
    def unreachable(self) -> bool:
        """No answer came: connection refused, reset, timed out, or no trust in the certificate."""
        return self.reason == UNREACHABLE

    @property
    def retriable(self) -> bool:
        """Whether the same call may succeed later without any change by the caller."""
        return self.code in (0, 408, 410, 429) or self.code >= 500 or self.conflict


def error_from_status(status: Mapping[str, Any], code: int = 0) -> ApiError:
    """Turn a ``Status`` object into the exception."""
    number = int(status.get("code") or code)
    return ApiError(
        number, str(status.get("reason") or f"HTTP{number}"), str(status.get("message") or f"HTTP {number}"), status
    )


def error_from_text(code: int, text: str) -> ApiError:
    """Make the exception for an answer that is not a ``Status`` (a proxy's page, say)."""
    shown = " ".join(text.split())[:MAX_TEXT]
    reason = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 410: "Expired"}.get(code)
    return ApiError(code, reason or f"HTTP{code}", f"HTTP {code}: {shown}" if shown else f"HTTP {code}")
