"""A pause is done once the machine's status says so, by which the next request is judged."""

from __future__ import annotations

from polyvisor.api.resources import VMIS

from ..test_machines import Home, home, phase  # noqa: F401, a fixture


async def test_a_pause_is_in_the_status_when_it_is_answered(home: Home) -> None:  # noqa: F811
    async with home.agent_running() as agent:
        await home.machine("one", {"name": "data", "emptyDisk": {"capacity": "1Mi"}})
        await home.until(VMIS, "one", phase("Running"))
        for operation, wanted in (("pause", True), ("unpause", False), ("pause", True)):
            await agent.ask("default", "one", operation)
            vmi = await home.client.get(VMIS, "one", "default")
            assert any(one["type"] == "Paused" for one in vmi["status"]["conditions"]) is wanted
