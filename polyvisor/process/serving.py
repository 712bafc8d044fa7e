"""uvicorn around an application: on a socket that is already bound, and without signal handling of its own.

Signals belong to the whole process, which stops its parts in order; and an end must not wait for watches, which by
themselves would go on for ever. With TLS, the subject name of a client's verified certificate is put into the
connection's state as ``peer``, and its organizations, which are Kubernetes' groups, as ``peer_groups``; uvicorn itself
does not hand them on.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import Server, ServerState

from polyvisor.kube.tasks import end_task

SHUTDOWN_SECONDS = 2


class ServingError(Exception):
    """The server could not begin to serve."""


class _Protocol(H11Protocol):
    """HTTP/1.1, websockets included, that knows who is at the other end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note the client's name before its first request."""
        super().connection_made(transport)
        found = transport.get_extra_info("peercert")
        who = {"peer": common_name(found), "peer_groups": organizations(found)}
        self.app_state = {**self.app_state, **who}


class _State(ServerState):
    """What a server's connections share; it knows the date when an answer needs it, at most once a second."""

    _dated: tuple[int, list[tuple[bytes, bytes]]] = (0, [])

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """Return what every answer has."""
        now = int(time.time())
        if now != self._dated[0]:
            self._dated = (now, [(b"date", formatdate(now, usegmt=True).encode())])
        return self._dated[1]

    @default_headers.setter
    def default_headers(self, _: list[tuple[bytes, bytes]]) -> None:
        """Take nothing: there are no others."""


class _Server(Server):
    """A uvicorn server that says when it is up, and that sleeps until it is told to end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.server_state = _State()
        self.up = asyncio.Event()
        self._ends = asyncio.Event()

    async def main_loop(self) -> None:
        """Wait for the end; uvicorn's own loop wakes up ten times a second, to look for it and for the date."""
        await self._ends.wait()

    def end(self) -> None:
        """Begin to end."""
        self.should_exit = True
        self._ends.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self.up.set()


class WebServer:
    """Serves an application on a bound socket, by TLS if there is a context for it."""

    def __init__(
        self, app: ASGIApp, listener: socket.socket, tls: ssl.SSLContext | None = None, *, websockets: bool = True
    ) -> None:
        """Without ``websockets`` their library, 2 MiB, is not loaded, and who asks for one is refused."""
        config = Config(
            app,
            ssl_context_factory=(lambda *_: tls) if tls is not None else None,
            log_config=None,
            access_log=False,
            http=_Protocol,
            ws=_websocket() if websockets else "none",
            ws_per_message_deflate=False,
            ws_max_size=1024 * 1024,
            h11_max_incomplete_event_size=64 * 1024,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            lifespan="on",
            server_header=False,
        )
        self._server = _Server(config)
        self._listener = listener
        self._task: asyncio.Task[None] | None = None
        self.port: int = listener.getsockname()[1]

    async def start(self) -> None:
        """Serve; returns when requests are answered."""
        self._task = asyncio.create_task(self._server.serve([self._listener]), name="web-server")
        up = asyncio.create_task(self._server.up.wait())
        try:
            await asyncio.wait([self._task, up], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_task(up)
        if self._task.done() or not self._server.started:
            if self._task.done() and (error := self._task.exception()):
                raise error
            raise ServingError("the web server did not start; the log has the reason")

    async def stop(self) -> None:
        """Answer no more requests; open ones get a few seconds."""
        if self._task is not None:
            self._server.end()
            await self._task


def _websocket() -> Any:
    from polyvisor.process.websocket import WebSocket

    return WebSocket


def common_name(certificate: dict[str, Any] | None) -> str:
    """Return the subject's common name of a peer's certificate in the form that :mod:`ssl` gives; empty if none."""
    for part in (certificate or {}).get("subject", ()):
        for key, value in part:
            if key == "commonName":
                return str(value)
    return ""


def organizations(certificate: dict[str, Any] | None) -> list[str]:
    """Return the organizations of a peer's certificate in the form that :mod:`ssl` gives."""
    subject = (certificate or {}).get("subject", ())
    return [str(value) for part in subject for key, value in part if key == "organizationName"]


def listen(host: str, port: int) -> socket.socket:
    """Bind a socket: all addresses, IPv6 included, if ``host`` is empty."""
    if host:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):
            return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def context_of(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a server's TLS context with a key pair from files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@contextlib.asynccontextmanager
async def serve(app: ASGIApp, cert: Path | None = None, key: Path | None = None) -> AsyncIterator[WebServer]:
    """Serve on a free port of the loopback while the context lasts."""
    with listen("127.0.0.1", 0) as listener:
        server = WebServer(app, listener, context_of(cert, key) if cert and key else None)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()
