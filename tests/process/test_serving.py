"""What the web server makes of an application, and what it costs while it waits."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from starlette.websockets import WebSocket

from polyvisor.process.serving import serve

UPGRADE = (
    b"GET /console HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def answer(_: Any) -> PlainTextResponse:
    return PlainTextResponse("ok")


def timers() -> list[asyncio.TimerHandle]:
    loop: Any = asyncio.get_running_loop()
    return [timer for timer in loop._scheduled if not timer.cancelled()]


async def test_a_server_that_waits_has_no_timer() -> None:
    async with serve(Starlette(routes=[Route("/", answer)])):
        await asyncio.sleep(0)
        assert timers() == []


async def test_an_answer_has_its_date() -> None:
    app = Starlette(routes=[Route("/", answer)])
    async with serve(app) as server, httpx.AsyncClient(trust_env=False) as client:
        found = (await client.get(f"http://127.0.0.1:{server.port}/")).headers
    assert abs(parsedate_to_datetime(found["date"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert len(found.get_list("date")) == 1


async def refusing(scope: object, receive: object, send: object) -> None:
    if scope["type"] == "websocket":  # type: ignore[index]
        refusal = JSONResponse({"message": "it does not run"}, status_code=409)
        await WebSocket(scope, receive, send).send_denial_response(refusal)  # type: ignore[arg-type]


async def closing(scope: object, receive: object, send: object) -> None:
    if scope["type"] == "websocket":  # type: ignore[index]
        await WebSocket(scope, receive, send).close(4401)  # type: ignore[arg-type]


@pytest.mark.parametrize(("app", "code"), [(refusing, b"409"), (closing, b"403")])
async def test_a_refused_websocket_is_answered_and_logs_no_error(
    caplog: pytest.LogCaptureFixture, app: object, code: bytes
) -> None:
    caplog.set_level(logging.INFO)
    async with serve(app) as server:  # type: ignore[arg-type]
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(UPGRADE)
        answer = await reader.read()
        writer.close()
    assert answer.split()[1] == code
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
