"""A small synchronous client: one kept-alive connection, JSON in and out.

The controllers' client is asynchronous and drags in an event loop; a command that asks two questions starts several
times faster on the standard library, and Ctrl-C works as one expects. Connection settings and errors are shared.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any
from urllib.parse import urlencode, urlsplit

from polyvisor import __version__
from polyvisor.kube.config import Connection
from polyvisor.kube.errors import UNREACHABLE, ApiError, error_from_status, error_from_text

Obj = dict[str, Any]
Query = Mapping[str, str | int | bool | None]
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
JSON = "application/json"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
CONNECT_SECONDS = 10.0
LOOPBACK_SECONDS = 60.0
"""A server on this machine that lets one wait is busy, not lost: no packet goes missing on the way to it."""
_WARNING = re.compile(r'299 \S+ "((?:[^"\\]|\\.)*)"')
"""A warning as Kubernetes sends it: code, agent, quoted text (RFC 7234, 5.5)."""


class Client:
    """Calls to one API server."""

    def __init__(
        self, connection: Connection, timeout: float | None = 30.0, warn: Callable[[str], None] = lambda _: None
    ) -> None:
        """``warn`` is told what the server warns of, each text once."""
        self.connection = connection
        self._warn = warn
        self._warned: set[str] = set()
        self.timeout = timeout
        self._kept: HTTPConnection | None = None

    def get(self, path: str, query: Query | None = None, accept: str = JSON) -> Obj:
        """GET ``path``."""
        return self.request("GET", path, query=query, accept=accept)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Query | None = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Obj:
        """Make one call and return its JSON answer; raise :class:`ApiError` for anything but success."""
        return self.request_with_code(method, path, body, query=query, content_type=content_type, accept=accept)[1]

    def request_with_code(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Query | None = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> tuple[int, Obj]:
        """Like :meth:`request`, with the HTTP code (201 tells a creation from a change)."""
        data = None if body is None else json.dumps(body).encode()
        headers = self._headers(accept)
        if data is not None:
            headers["Content-Type"] = content_type
        target = path + _query(query)
        fresh = self._kept is None
        try:
            response = self._send(method, target, data, headers)
            text = response.read()
        except (ConnectionError, HTTPException) as error:
            self.close()
            if fresh:
                raise self._unreachable(error) from error
            return self.request_with_code(method, path, body, query=query, content_type=content_type, accept=accept)
        except OSError as error:
            self.close()
            raise self._unreachable(error) from error
        for header in response.headers.get_all("Warning", ()):
            self._pass_on(header)
        return response.status, _answer(response.status, text)

    @contextmanager
    def stream(self, path: str, query: Query | None = None, timeout: float | None = None) -> Iterator[HTTPResponse]:
        """Open a long answer (a log, a watch) on a connection of its own."""
        connection = self._open(timeout)
        try:
            connection.request("GET", path + _query(query), headers=self._headers("*/*"))
            response = connection.getresponse()
            if response.status >= 400:
                _answer(response.status, response.read())
            yield response
        except TimeoutError:
            raise
        except (OSError, HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()

    def watch(
        self, path: str, query: Query, accept: str = JSON, timeout: float | None = None
    ) -> Iterator[tuple[str, Obj]]:
        """Yield ``(type, object)`` from a watch until the server ends it; TimeoutError after a silent ``timeout``."""
        connection = self._open(timeout)
        try:
            connection.request("GET", path + _query({**query, "watch": True}), headers=self._headers(accept))
            response = connection.getresponse()
            if response.status >= 400:
                _answer(response.status, response.read())
            while line := response.readline():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise error_from_status(event["object"])
                yield event["type"], event["object"]
        except TimeoutError:
            raise
        except (OSError, HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()

    def close(self) -> None:
        """Close the kept connection."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _send(self, method: str, target: str, data: bytes | None, headers: Mapping[str, str]) -> HTTPResponse:
        if self._kept is None:
            self._kept = self._open(self.timeout)
        self._kept.request(method, target, body=data, headers=dict(headers))
        return self._kept.getresponse()

    def _open(self, timeout: float | None) -> HTTPConnection:
        parts = urlsplit(self.connection.server)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        connection = HTTPConnection(host, port, timeout=timeout)
        try:
            limit = LOOPBACK_SECONDS if self.connection.loopback else CONNECT_SECONDS
            connection.sock = socket.create_connection((host, port), timeout=limit)
            if self.connection.ssl_context is not None:
                connection.sock = self.connection.ssl_context.wrap_socket(
                    connection.sock, server_hostname=self.connection.server_name or host
                )
            connection.sock.settimeout(timeout)
        except OSError as error:
            connection.close()
            raise self._unreachable(error) from error
        return connection

    def _headers(self, accept: str) -> dict[str, str]:
        headers = {"Accept": accept, "User-Agent": f"polyvisor/{__version__}"}
        if authorization := self.connection.authorization():
            headers["Authorization"] = authorization
        return headers

    def _pass_on(self, header: str) -> None:
        found = _WARNING.fullmatch(header)
        words = re.sub(r"\\(.)", r"\1", found[1]) if found else header
        if words not in self._warned:
            self._warned.add(words)
            self._warn(words)

    def _unreachable(self, error: Exception) -> ApiError:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
        return ApiError(0, UNREACHABLE, f"cannot reach the API server at {self.connection.server}: {said}")


def _query(query: Query | None) -> str:
    items = {
        k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in (query or {}).items() if v not in (None, "")
    }
    return "?" + urlencode(items) if items else ""


def _answer(code: int, text: bytes) -> Obj:
    try:
        value = json.loads(text) if text.strip() else {}
    except ValueError:
        value = None
    if code >= 400:
        if isinstance(value, dict) and value.get("kind") == "Status":
            raise error_from_status(value, code)
        raise error_from_text(code, text.decode(errors="replace"))
    return value if isinstance(value, dict) else {}
