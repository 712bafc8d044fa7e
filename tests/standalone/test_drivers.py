"""The route that tries the drivers again: whoever asks is told what came out, not what was known before."""

from __future__ import annotations

from pathlib import Path

import httpx
from starlette.applications import Starlette

from polyvisor.agent.node.registration import NodeKeeper
from polyvisor.api.node_names import DRIVERS_PATH
from polyvisor.standalone.drivers import DriverDoor
from tests.agent.node.test_prober import FAILS, WORKS, Played
from tests.agent.node.test_registration import Server, keeper_of


async def ask(keeper: NodeKeeper | None) -> httpx.Response:
    transport = httpx.ASGITransport(Starlette(routes=DriverDoor(lambda: keeper).routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as web:
        return await web.post(DRIVERS_PATH)


async def test_the_drivers_are_tried_and_the_node_shows_it_too(tmp_path: Path) -> None:
    server = Server()
    keeper = keeper_of(server, tmp_path, Played("one", FAILS, WORKS))
    found = [(await ask(keeper)).json()["drivers"] for _ in range(2)]
    assert [report[0]["available"] for report in found] == [False, True]
    assert found[0][0]["reason"] == FAILS.reason
    assert server.node["metadata"]["labels"]["hypervisor.kubevirt.io/one"] == "true"


async def test_before_there_is_an_agent_clients_may_try_again() -> None:
    answer = await ask(None)
    assert (answer.status_code, answer.json()["reason"]) == (503, "ServiceUnavailable")
