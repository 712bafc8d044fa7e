"""uvicorn around the application: TLS, loopback, an end that does not wait for watches."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp


class Server(uvicorn.Server):
    """A uvicorn server that leaves signals to its process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take no signals: whoever runs the server decides when it ends."""
        yield

    @property
    def port(self) -> int:
        """The port that it listens on."""
        port: int = self.servers[0].sockets[0].getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def serve(
    app: ASGIApp, host: str = "127.0.0.1", port: int = 0, cert: Path | None = None, key: Path | None = None
) -> AsyncIterator[Server]:
    """Serve while the context lasts; port 0 takes a free one (``server.port``). Raises OSError if the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        config = uvicorn.Config(
            app,
            ssl_certfile=cert,
            ssl_keyfile=key,
            ssl_version=ssl.PROTOCOL_TLS_SERVER,
            log_config=None,
            access_log=False,
            lifespan="on",
            ws="websockets-sansio",
            h11_max_incomplete_event_size=64 * 1024,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=2,
            server_header=False,
        )
        server = Server(config)
        started = asyncio.create_task(server.serve([sock]), name="apiserver")
        try:
            while not server.started:
                if started.done():
                    await started
                    raise OSError(f"the server on {host}:{port} did not start")
                await asyncio.sleep(0.005)
            yield server
        finally:
            server.should_exit = True
            await started
    finally:
        sock.close()
