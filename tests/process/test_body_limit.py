"""Bodies that are longer than their server accepts, told or not."""

from __future__ import annotations

import asyncio
import json

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from polyvisor.process.body_limit import BodyLimit
from polyvisor.process.serving import WebServer, serve
from polyvisor.server.process import body_limit


async def _length(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


def app(limit: int) -> Starlette:
    return Starlette(
        routes=[Route("/", _length, methods=["POST"])],
        middleware=[Middleware(BodyLimit, limit_of=lambda _: limit)],
    )


async def sent(server: WebServer, head: str, *pieces: bytes) -> tuple[int, bytes]:
    """Send a request until the server has enough of it; return the answer's code and content."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(f"POST / HTTP/1.1\r\nHost: h\r\n{head}\r\n\r\n".encode())
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            pass
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        return int(answer.split()[1]), await asyncio.wait_for(reader.read(2000), 10)
    finally:
        writer.close()


@pytest.mark.parametrize("size", [0, 5, 10])
async def test_what_is_within_the_limit_is_read(size: int) -> None:
    async with serve(app(10)) as server:
        assert await sent(server, f"Content-Length: {size}", b"x" * size) == (200, str(size).encode())


async def test_a_length_beyond_the_limit_is_refused_before_a_byte_has_come() -> None:
    async with serve(app(10)) as server:
        code, said = await sent(server, "Content-Length: 1000000000000")
    assert code == 413
    assert json.loads(said)["reason"] == "RequestEntityTooLarge"


async def test_bytes_are_counted_where_no_length_is_told() -> None:
    piece = b"%x\r\n%s\r\n" % (1000, b"x" * 1000)
    async with serve(app(10_000)) as server:
        code, _ = await sent(server, "Transfer-Encoding: chunked", *[piece] * 20)
    assert code == 413


def test_reviews_may_be_longer_than_other_requests() -> None:
    assert body_limit("/validate/x") == body_limit("/mutate") == body_limit("/evict") > body_limit("/apis/x")
