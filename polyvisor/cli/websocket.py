"""A websocket for code without an event loop: the library's asyncio client, run on a loop in a thread of its own.

The library's threaded client reads and writes one TLS connection from two threads at once, which Python's ``ssl`` does
not bear before 3.13: now and then a request or its answer got lost, and the handshake never ended.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

T = TypeVar("T")
CLOSE_SECONDS = 5.0


class Websocket:
    """An open websocket; ``options`` are those of ``websockets.asyncio.client.connect``, whose errors are raised."""

    def __init__(self, url: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="websocket", daemon=True)
        self._thread.start()
        try:
            self._connection: ClientConnection = self._do(self._open(url, options))
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Websocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._end()

    @property
    def subprotocol(self) -> str | None:
        """What the server chose."""
        return self._connection.subprotocol

    def recv(self, timeout: float | None = None) -> bytes:
        """Return the next message. Raises ``ConnectionClosed``, and TimeoutError after ``timeout`` seconds."""
        data = self._do(self._recv(timeout))
        return data.encode() if isinstance(data, str) else data

    def send(self, data: bytes) -> None:
        """Send a message. Raises ``ConnectionClosed``."""
        self._do(self._connection.send(data))

    def close(self) -> None:
        """Close; whoever waits in :meth:`recv` gets ``ConnectionClosed``."""
        self._do(self._connection.close())

    async def _open(self, url: str, options: dict[str, Any]) -> ClientConnection:
        from websockets.asyncio.client import connect

        return await connect(url, close_timeout=CLOSE_SECONDS, **options)

    async def _recv(self, seconds: float | None) -> str | bytes:
        async with asyncio.timeout(seconds):
            return await self._connection.recv()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
