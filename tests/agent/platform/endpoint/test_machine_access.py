"""What users have of a guest on a real host beside its console: its screen, pictures of it, its agent, its figures."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from pathlib import Path

import pytest

from polyvisor.api import Obj
from polyvisor.api.resources import VMIS
from polyvisor.server.node import ByteStream, NodeError
from tests.agent.platform.endpoint.guests import DEMO, DISK, mapped, node_of
from tests.agent.platform.endpoint.guests import clean as clean
from tests.agent.platform.endpoint.guests import world as world
from tests.agent.platform.endpoint.hosts import HypervisorHost
from tests.agent.platform.endpoint.test_hosts import by_socket, by_ssh, by_tls, ssh_secret, tls_secret
from tests.agent.platform.endpoint.world import World, condition
from tests.e2e.agent_guest import IMAGE, add_image

pytestmark = pytest.mark.root
PNG = b"\x89PNG\r\n\x1a\n"


async def heard(stream: ByteStream, count: int) -> bytes:
    found = b""
    async with asyncio.timeout(60):
        while len(found) < count and (data := await stream.read()):
            found += data
    return found


@pytest.mark.parametrize("way", ["ssh", "unix"])
async def test_a_screen_is_seen_through_the_connection_s_own_transport(
    world: World, host: HypervisorHost, pool: str, way: str
) -> None:
    endpoint = mapped(by_ssh(host) if way == "ssh" else by_socket(host))
    await world.add(endpoint, ssh_secret(host) if way == "ssh" else None)
    await world.create("web", "rack4", volumes=[DISK])
    vmi, node = await world.running("web"), node_of(world)
    first = await node.open(vmi, "vnc")
    assert await heard(first, 12) == b"RFB 003.008\n"
    await first.write(b"RFB 003.008\n")
    assert (await heard(first, 2))[0] >= 1  # the kinds of security that it offers
    with pytest.raises(NodeError, match="Active VNC connection"):
        await node.open(vmi, "vnc", preserve=True)
    second = await node.open(vmi, "vnc")
    assert await heard(second, 12) == b"RFB 003.008\n"
    assert await heard(first, 1) == b""
    assert world.agent is not None
    keeper = world.agent.keeper("rack4")
    assert keeper is not None
    assert [one for one in keeper.folder.rglob("*") if one.name in ("ssh-privatekey", "ssh_config")] == []
    await second.close()
    picture = await node.open(vmi, "screenshot")
    assert (await heard(picture, 8))[:8] == PNG
    told = await world.agent.figures()
    assert [(labels["name"], labels["node"]) for labels, _, _ in told] == [("web", "endpoint-rack4")]
    assert told[0][1]["cpu.time"] > 0
    await world.delete("web")
    await world.gone("web")


async def test_over_tls_a_screen_is_refused_with_the_way_that_there_is(
    world: World, host: HypervisorHost, pool: str
) -> None:
    await world.add(mapped(by_tls(host)), tls_secret(host.authority))
    await world.create("web", "rack4", volumes=[DISK])
    vmi = await world.running("web")
    with pytest.raises(NodeError, match=r"local sockets alone, and Polyvisor by SSH"):
        await node_of(world).open(vmi, "vnc")
    picture = await node_of(world).open(vmi, "screenshot")
    assert (await heard(picture, 8))[:8] == PNG
    await world.delete("web")
    await world.gone("web")


async def test_a_guest_s_agent_is_asked(world: World, host: HypervisorHost, pool: str, tmp_path: Path) -> None:
    await asyncio.to_thread(add_image, tmp_path / "images")
    demo: Obj = copy.deepcopy(DEMO)
    demo["domain"]["firmware"]["kernelBoot"]["container"]["image"] = IMAGE
    await world.add(mapped(by_ssh(host)), ssh_secret(host))
    await world.create("demo", "rack4", **demo)
    await world.running("demo")
    connected: Callable[[Obj], bool] = lambda one: condition(one, "AgentConnected") == "True"  # noqa: E731
    vmi = await world.until(VMIS, "demo", connected, seconds=120)
    info = await node_of(world).ask(vmi, "guestosinfo")
    assert info["os"]["id"] == "demo"
    assert vmi["status"]["guestOSInfo"]["id"] == "demo"
    assert (await node_of(world).ask(vmi, "filesystemlist"))["items"] is not None
    await world.delete("demo")
    await world.gone("demo")
