from __future__ import annotations

from typing import Any

from polyvisor.controllers.snapshots.source import Source

Obj = dict[str, Any]


class Client:
    def __init__(self) -> None:
        self.asked: list[str] = []

    async def request(self, method: str, path: str, **_: Any) -> None:
        self.asked.append(path.rpartition("/")[2])


def source(client: Any, *conditions: str) -> Source:
    told = [{"type": one, "status": "True"} for one in conditions]
    vmi = {"metadata": {"name": "m"}, "status": {"phase": "Running", "conditions": told}}
    return Source(client, {"metadata": {"name": "m", "namespace": "n"}}, vmi, "s")


async def test_a_guest_is_thawed_though_its_node_has_paused_it_meanwhile() -> None:
    client = Client()
    await source(client, "AgentConnected").freeze(60)
    await source(client, "AgentConnected", "Paused").thaw()
    assert client.asked == ["freeze", "unfreeze"]


async def test_a_guest_that_stands_still_or_has_no_agent_is_not_frozen() -> None:
    client = Client()
    await source(client, "AgentConnected", "Paused").freeze(60)
    await source(client).freeze(60)
    await source(client).thaw()
    assert client.asked == []
    assert source(client, "AgentConnected", "Paused").indications() == ["Online", "Paused"]
    assert source(client, "AgentConnected").indications() == ["GuestAgent", "Online"]
