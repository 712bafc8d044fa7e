"""A node side that keeps what it was asked, and a console that echoes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from polyvisor.server.node import NodeError

Obj = dict[str, Any]


class EchoStream:
    def __init__(self, greeting: bytes) -> None:
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._queue.put_nowait(greeting)
        self.closed = False

    async def read(self) -> bytes:
        return await self._queue.get()

    async def write(self, data: bytes) -> None:
        self._queue.put_nowait(b"echo:" + data)
        if b"logout" in data:
            self._queue.put_nowait(b"")

    async def close(self) -> None:
        self.closed = True
        self._queue.put_nowait(b"")


class PictureStream(EchoStream):
    async def read(self) -> bytes:
        part, self.left = self.left, b""
        return part

    left = b"\x89PNG picture"


class FakeNode:
    def __init__(self) -> None:
        self.arguments: dict[str, Any] = {}
        self.answer: Obj = {}
        self.last_logs: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.refuse: NodeError | None = None
        self.current: EchoStream | None = None

    async def open(self, vmi: Obj, stream: str, **arguments: Any) -> EchoStream:
        self._note(stream, vmi)
        self.arguments = arguments
        if stream == "screenshot":
            return PictureStream(b"")
        if stream == "console" and self.current is not None:
            await self.current.close()
        self.current = EchoStream(b"login: ")
        return self.current

    async def ask(self, vmi: Obj, operation: str, **arguments: Any) -> Obj:
        self._note(operation, vmi)
        self.arguments = arguments
        return dict(self.answer)

    async def read_log(self, pod: Obj, container: str, *, follow: bool, tail: int | None) -> AsyncIterator[bytes]:
        self._note("log", pod)
        yield f"{container} follow={follow} tail={tail}\n".encode()

    def read_last_log(self, uuid: str, container: str, *, tail: int | None) -> AsyncIterator[bytes] | None:
        async def chunks() -> AsyncIterator[bytes]:
            if text := self.last_logs[uuid]:
                yield f"{container} tail={tail}\n".encode() + text

        return chunks() if uuid in self.last_logs else None

    def _note(self, what: str, obj: Obj) -> None:
        self.asked.append((what, obj["metadata"]["name"]))
        if self.refuse is not None:
            raise self.refuse
