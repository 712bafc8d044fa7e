from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette

from polyvisor.server.subresources_discovery import ACTIONS
from polyvisor.server.subresources_refused import INSTALLATION, INSTANCES, MACHINES, routes

VM, VMI = "/vms/{name}", "/vmis/{name}"


@pytest.mark.parametrize(("base", "known"), [("/v1", INSTALLATION), ("/vmis/one", INSTANCES), ("/vms/one", MACHINES)])
async def test_each_is_answered_in_words(base: str, known: dict[str, str]) -> None:
    transport = httpx.ASGITransport(Starlette(routes=routes("/v1", VM, VMI)))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answers = {name: await client.put(f"{base}/{name}") for name in known}
    for name, why in known.items():
        answer = answers[name]
        assert answer.status_code == 400
        message = f"KubeVirt's {name} is not implemented by Polyvisor: {why}"
        assert (answer.json()["kind"], answer.json()["message"]) == ("Status", message)


def test_nothing_is_both_there_and_refused() -> None:
    there = {action for actions in ACTIONS.values() for action in actions}
    assert not there & {*INSTANCES, *MACHINES}
