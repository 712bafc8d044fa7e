"""Keeps the node's device plugins registered with the kubelet, for as long as the agent runs.

A kubelet that starts empties the folder of sockets and knows no plugin any more; that its own socket is another one is
all there is to notice. So everything is begun anew whenever that socket, or one of ours, is not what it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.server import Server

from polyvisor.agent.files.watching import LOOK_SECONDS, changes, look
from polyvisor.agent.node.devices.messages import VERSION, Codec, Empty, RegisterRequest
from polyvisor.agent.node.devices.plugin import DevicePlugin
from polyvisor.api.node_names import DEVICE_PREFIX

KUBELET = "kubelet.sock"
REGISTER = "/v1beta1.Registration/Register"
CALL_SECONDS = 10.0
AGAIN_SECONDS = 5.0
log = logging.getLogger("polyvisor.devices")


class DeviceKeeper:
    """Offers device nodes (name -> path) through the sockets in ``folder``; ``own`` is a folder of the agent's."""

    def __init__(self, folder: Path, devices: Mapping[str, Path], own: Path, seconds: float = LOOK_SECONDS) -> None:
        self._folder = folder
        self._seconds = seconds
        self._plugins = [DevicePlugin(name, path, own, seconds) for name, path in devices.items()]

    async def run(self) -> None:
        """Work until cancelled; what goes wrong is told and tried again."""
        said = ""
        while True:
            try:
                await self._serve()
                said = ""
            except (OSError, TimeoutError, GRPCError, StreamTerminatedError) as error:
                words = str(error) or type(error).__name__
                log.log(logging.DEBUG if words == said else logging.WARNING, "devices are not offered: %s", words)
                said = words
                await asyncio.sleep(min(AGAIN_SECONDS, self._seconds * 5))

    async def _serve(self) -> None:
        """Offer the devices until the kubelet is another one."""
        kubelet = look([self._folder / KUBELET])
        async with AsyncExitStack() as stack:
            sockets = []
            for plugin in self._plugins:
                socket = self._folder / f"polyvisor-{plugin.name}.sock"
                await asyncio.to_thread(socket.unlink, missing_ok=True)
                server = Server([plugin], codec=Codec())
                await server.start(path=str(socket))
                stack.push_async_callback(_end, server, socket)
                await self._register(plugin, socket.name)
                sockets.append(socket)
            log.info("offered to the kubelet: %s", ", ".join(plugin.name for plugin in self._plugins))
            watched = [self._folder / KUBELET, *sockets]
            async for _ in changes(watched, (*kubelet, *look(sockets)), self._seconds):
                log.info("the kubelet has started anew")
                return

    async def _register(self, plugin: DevicePlugin, endpoint: str) -> None:
        channel = Channel(path=str(self._folder / KUBELET), codec=Codec())
        try:
            method = UnaryUnaryMethod(channel, REGISTER, RegisterRequest, Empty)
            request = RegisterRequest(VERSION, endpoint, f"{DEVICE_PREFIX}{plugin.name}")
            await method(request, timeout=CALL_SECONDS)
        finally:
            channel.close()


async def _end(server: Server, socket: Path) -> None:
    """Take a plugin back: its calls are cancelled. Its connections last until the kubelet, which waits on them, goes.

    ``Server.wait_closed`` would wait for those too, from Python 3.12 on.
    """
    server.close()
    await asyncio.to_thread(socket.unlink, missing_ok=True)
