"""The HTTPS server that carries the API: uvicorn on a socket that is already bound, without its own signal handling."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Generator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from polyvisor.standalone.failure import StartError

logger = logging.getLogger(__name__)
SHUTDOWN_SECONDS = 2


class _Server(uvicorn.Server):
    """Signals belong to the whole process, which stops its parts in order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
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
    """Serves an application on a bound socket."""

    def __init__(self, app: ASGIApp, listener: socket.socket, certificate: Path, key: Path) -> None:
        config = uvicorn.Config(
            app,
            ssl_certfile=str(certificate),
            ssl_keyfile=str(key),
            log_config=None,
            access_log=False,
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            ws_max_size=1024 * 1024,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            lifespan="on",
            server_header=False,
        )
        self._server = _Server(config)
        self._listener = listener
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve; returns when requests are answered."""
        self._task = asyncio.create_task(self._server.serve([self._listener]), name="webserver")
        up = asyncio.create_task(self._server.up.wait())
        done, _ = await asyncio.wait([self._task, up], return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        if self._task in done or not self._server.started:
            if self._task in done and (error := self._task.exception()):
                raise error
            raise StartError("the API server did not start", "The log has the reason.")

    async def stop(self) -> None:
        """Answer no more requests; open ones get a few seconds."""
        if self._task is not None:
            self._server.should_exit = True
            await self._task
