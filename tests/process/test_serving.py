from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from polyvisor.process.serving import serve


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
