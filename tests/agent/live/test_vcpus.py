from __future__ import annotations

from typing import Any

import pytest

from polyvisor.agent.errors import AgentError
from polyvisor.agent.link.connection import LauncherError, LauncherGone
from polyvisor.agent.live.vcpus import settle
from polyvisor.drivers import registry

Obj = dict[str, Any]
QEMU: Any = registry().get("qemu")


class Launcher:
    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[Obj] = []
        self.error = error

    async def request(self, operation: str, **arguments: Any) -> Obj:
        self.asked.append({"op": operation, **arguments})
        if self.error:
            raise self.error
        return {}


def vmi(told: int | None = None, **cpu: Any) -> Obj:
    status = {"currentCPUTopology": {"cores": 2, "sockets": told, "threads": 1}} if told else {}
    return {"spec": {"domain": {"cpu": {"cores": 2, **cpu}}}, "status": status}


async def test_a_guest_gets_the_cpus_that_its_spec_has_now() -> None:
    launcher: Any = Launcher()
    assert await settle(vmi(1, sockets=3, maxSockets=4), launcher, QEMU) == {
        "currentCPUTopology": {"cores": 2, "sockets": 3, "threads": 1}
    }
    assert launcher.asked == [{"op": "vcpus", "count": 6}]


@pytest.mark.parametrize("told", [None, 3])
async def test_a_guest_that_has_them_is_left_alone(told: int | None) -> None:
    launcher: Any = Launcher()
    found = await settle(vmi(told, sockets=3, maxSockets=4), launcher, QEMU)
    assert found["currentCPUTopology"]["sockets"] == 3
    assert launcher.asked == []


async def test_a_number_that_is_fixed_is_not_told() -> None:
    launcher: Any = Launcher()
    assert await settle(vmi(None, sockets=3), launcher, QEMU) == {}
    assert await settle(vmi(1, sockets=3, maxSockets=4), launcher, registry().get("lxc")) != {}  # type: ignore[arg-type]
    assert launcher.asked == []


async def test_a_refusal_is_the_machines_trouble() -> None:
    launcher: Any = Launcher(LauncherError("no room"))
    with pytest.raises(AgentError, match="cannot be given 3 CPU sockets: no room"):
        await settle(vmi(1, sockets=3, maxSockets=4), launcher, QEMU)
    gone: Any = Launcher(LauncherGone("gone"))
    with pytest.raises(LauncherGone):
        await settle(vmi(1, sockets=3, maxSockets=4), gone, QEMU)
