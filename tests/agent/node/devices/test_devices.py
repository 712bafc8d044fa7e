"""Device plugins against a kubelet that the test plays, over real gRPC on sockets."""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Server, Stream

from polyvisor.agent.node.devices.keeper import REGISTER, DeviceKeeper
from polyvisor.agent.node.devices.messages import (
    AllocateRequest,
    AllocateResponse,
    Codec,
    ContainerRequest,
    Devices,
    Empty,
    Options,
    RegisterRequest,
)
from polyvisor.agent.node.devices.plugin import COUNT, SERVICE
from polyvisor.kube.tasks import end_task
from tests.needs import absent

NULL = os.makedev(1, 3)


class Kubelet:
    """Takes registrations, as a kubelet does: it empties the folder when it starts, and calls back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registered: asyncio.Queue[RegisterRequest] = asyncio.Queue()
        self._server: Server | None = None

    def __mapping__(self) -> dict[str, Handler]:
        return {REGISTER: Handler(self._register, Cardinality.UNARY_UNARY, RegisterRequest, Empty)}

    async def _register(self, stream: Stream[Any, Any]) -> None:
        self.registered.put_nowait(await stream.recv_message())
        await stream.send_message(Empty())

    async def start(self) -> None:
        for socket in self.folder.glob("*.sock"):
            socket.unlink()
        self._server = Server([self], codec=Codec())
        await self._server.start(path=str(self.folder / "kubelet.sock"))

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def plugins(self, count: int) -> dict[str, RegisterRequest]:
        async with asyncio.timeout(20):
            found = [await self.registered.get() for _ in range(count)]
        return {one.resource_name: one for one in found}

    def channel(self, plugin: RegisterRequest) -> Channel:
        return Channel(path=str(self.folder / plugin.endpoint), codec=Codec())


class Node:
    def __init__(self, folder: Path) -> None:
        self.kubelet = Kubelet(folder / "plugins")
        self.kubelet.folder.mkdir()
        self.kvm, self.tun = folder / "kvm", folder / "tun"
        self.own = folder / "own"

    def make(self, path: Path, mode: int = 0o666) -> None:
        try:
            os.mknod(path, stat.S_IFCHR | 0o600, NULL)
        except PermissionError as error:
            absent("device nodes", str(error))
        path.chmod(mode)

    def keeper(self) -> DeviceKeeper:
        return DeviceKeeper(self.kubelet.folder, {"kvm": self.kvm, "tun": self.tun}, self.own, seconds=0.01)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    with tempfile.TemporaryDirectory(prefix="pvd", dir="/tmp") as short:  # a socket's path may not be long
        node = Node(Path(short))
        node.make(node.kvm)
        yield node
        await node.kubelet.stop()


@pytest.fixture
async def offered(node: Node) -> AsyncIterator[dict[str, RegisterRequest]]:
    await node.kubelet.start()
    task = asyncio.create_task(node.keeper().run())
    yield await node.kubelet.plugins(2)
    await end_task(task)


async def test_each_device_is_registered(offered: dict[str, RegisterRequest], node: Node) -> None:
    assert set(offered) == {"devices.kubevirt.io/kvm", "devices.kubevirt.io/tun"}
    plugin = offered["devices.kubevirt.io/kvm"]
    assert plugin.version == "v1beta1"
    assert stat.S_ISSOCK((node.kubelet.folder / plugin.endpoint).stat().st_mode)
    channel = node.kubelet.channel(plugin)
    method = UnaryUnaryMethod(channel, f"{SERVICE}GetDevicePluginOptions", Empty, Options)
    assert await method(Empty(), timeout=10) == Options()
    channel.close()


async def lists(stream: Any) -> tuple[int, set[str]]:
    async with asyncio.timeout(10):
        found = await stream.recv_message()
    return len(found.devices), {one.health for one in found.devices}


async def test_health_follows_the_device_node(offered: dict[str, RegisterRequest], node: Node) -> None:
    channel = node.kubelet.channel(offered["devices.kubevirt.io/kvm"])
    absent = node.kubelet.channel(offered["devices.kubevirt.io/tun"])
    method: Any = UnaryStreamMethod(channel, f"{SERVICE}ListAndWatch", Empty, Devices)
    other: Any = UnaryStreamMethod(absent, f"{SERVICE}ListAndWatch", Empty, Devices)
    async with method.open() as stream, other.open() as second:
        await stream.send_message(Empty(), end=True)
        await second.send_message(Empty(), end=True)
        assert await lists(stream) == (COUNT, {"Healthy"})
        assert await lists(second) == (0, set()), "what a node never had is not counted as broken"
        node.kvm.unlink()
        assert await lists(stream) == (COUNT, {"Unhealthy"})
        node.make(node.kvm)
        assert await lists(stream) == (COUNT, {"Healthy"})
        node.make(node.tun)
        assert await lists(second) == (COUNT, {"Healthy"})
        for each in (stream, second):
            await each.cancel()
    channel.close()
    absent.close()


async def allocate(node: Node, plugin: RegisterRequest) -> AllocateResponse:
    channel = node.kubelet.channel(plugin)
    method = UnaryUnaryMethod(channel, f"{SERVICE}Allocate", AllocateRequest, AllocateResponse)
    try:
        request = AllocateRequest((ContainerRequest(("kvm1",)), ContainerRequest(("kvm2",))))
        return await method(request, timeout=10)
    finally:
        channel.close()


async def test_a_container_gets_the_node_of_a_device_that_is_for_everybody(
    offered: dict[str, RegisterRequest], node: Node
) -> None:
    answer = await allocate(node, offered["devices.kubevirt.io/kvm"])
    given = [(one.host_path, one.container_path, one.permissions) for c in answer.containers for one in c.devices]
    assert given == [(str(node.kvm), str(node.kvm), "rw")] * 2


async def test_a_device_of_a_group_is_given_out_through_a_node_of_the_agent_s_own(
    offered: dict[str, RegisterRequest], node: Node
) -> None:
    node.kvm.chmod(0o660)
    for device in (NULL, os.makedev(1, 5)):
        answer = await allocate(node, offered["devices.kubevirt.io/kvm"])
        (spec,) = answer.containers[0].devices
        found = (node.own / "kvm").stat()
        assert spec.host_path == str(node.own / "kvm")
        assert (found.st_rdev, stat.S_IMODE(found.st_mode)) == (device, 0o666)
        assert spec.container_path == str(node.kvm)
        node.kvm.unlink()
        os.mknod(node.kvm, stat.S_IFCHR | 0o660, os.makedev(1, 5))
    assert stat.S_IMODE(node.own.stat().st_mode) == 0o700
    assert stat.S_IMODE(node.kvm.stat().st_mode) == 0o660 & ~_umask(), "the host's own is left as it is"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


async def test_a_device_that_has_gone_is_not_given_out(offered: dict[str, RegisterRequest], node: Node) -> None:
    with pytest.raises(GRPCError) as refused:
        await allocate(node, offered["devices.kubevirt.io/tun"])
    assert refused.value.status is Status.FAILED_PRECONDITION
    assert "tun cannot be given out" in str(refused.value.message)


async def test_a_kubelet_that_keeps_its_connection_does_not_hold_up_the_end(node: Node) -> None:
    await node.kubelet.start()
    task = asyncio.create_task(node.keeper().run())
    channel = node.kubelet.channel((await node.kubelet.plugins(2))["devices.kubevirt.io/kvm"])
    watch: Any = UnaryStreamMethod(channel, f"{SERVICE}ListAndWatch", Empty, Devices)
    async with watch.open() as stream:
        await stream.send_message(Empty(), end=True)
        await lists(stream)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=10)
        assert done, "it waits for the kubelet, which waits for news of the devices"
        await stream.cancel()
    channel.close()
    assert not list(node.kubelet.folder.glob("polyvisor-*"))


async def test_plugins_register_again_with_a_kubelet_that_starts_anew(node: Node) -> None:
    task = asyncio.create_task(node.keeper().run())  # before there is any kubelet
    for _ in range(3):
        await node.kubelet.start()
        found = await node.kubelet.plugins(2)
        await allocate(node, found["devices.kubevirt.io/kvm"])
        await node.kubelet.stop()
    await end_task(task)
    with suppress(FileNotFoundError):
        assert not list(node.kubelet.folder.glob("polyvisor-*"))
