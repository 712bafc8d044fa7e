"""uvicorn around the application: on a socket that is already bound, and without signal handling of its own.

Signals belong to the whole process, which stops its parts in order; and an end must not wait for watches, which by
themselves would go on for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from polyvisor.kube.tasks import end_task
from polyvisor.standalone.failure import StartError

SHUTDOWN_SECONDS = 2


class _Server(uvicorn.Server):
    """A uvicorn server that says when it is up."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self.up.set()


class WebServer:
    """Serves an application on a bound socket, by TLS if there is a certificate."""

    def __init__(
        self, app: ASGIApp, listener: socket.socket, certificate: Path | None = None, key: Path | None = None
    ) -> None:
        config = uvicorn.Config(
            app,
            ssl_certfile=certificate,
            ssl_keyfile=key,
            log_config=None,
            access_log=False,
            ws="websockets-sansio",
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
        self._task = asyncio.create_task(self._server.serve([self._listener]), name="apiserver")
        up = asyncio.create_task(self._server.up.wait())
        try:
            await asyncio.wait([self._task, up], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_task(up)
        if self._task.done() or not self._server.started:
            if self._task.done() and (error := self._task.exception()):
                raise error
            raise StartError("the API server did not start", "The log has the reason.")

    async def stop(self) -> None:
        """Answer no more requests; open ones get a few seconds."""
        if self._task is not None:
            self._server.should_exit = True
            await self._task


@contextlib.asynccontextmanager
async def serve(app: ASGIApp, cert: Path | None = None, key: Path | None = None) -> AsyncIterator[WebServer]:
    """Serve on a free port of the loopback while the context lasts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = WebServer(app, listener, cert, key)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()
