"""One kind of device offered to the kubelet: a gRPC server on a socket beside the kubelet's own.

A device node such as /dev/kvm can be opened by any number of processes, so it is offered many times over; the number
only keeps the scheduler's books. What a container gets is the node itself. Where the host's node is not for everybody
(/dev/kvm belongs to a group on many systems, and a launcher is a user of no group), the container gets a node of the
agent's own for the same device, in a folder that only root can enter: the host's is left as it is.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from polyvisor.agent.files.watching import changes, look
from polyvisor.agent.node.devices import messages

COUNT = 1000
SERVICE = "/v1beta1.DevicePlugin/"
EVERYBODY = stat.S_IROTH | stat.S_IWOTH


class DevicePlugin:
    """Serves one device node. ``own`` is the folder for nodes of the agent's own."""

    def __init__(self, name: str, path: Path, own: Path, seconds: float) -> None:
        self.name = name
        self.path = path
        self._own = own / name
        self._seconds = seconds
        self._known = False

    def __mapping__(self) -> dict[str, Handler]:
        """Return the calls, in the shape that grpclib asks for."""
        m = messages
        unary, stream = Cardinality.UNARY_UNARY, Cardinality.UNARY_STREAM
        return {
            f"{SERVICE}GetDevicePluginOptions": Handler(self._options, unary, m.Empty, m.Options),
            f"{SERVICE}ListAndWatch": Handler(self._list, stream, m.Empty, m.Devices),
            f"{SERVICE}Allocate": Handler(self._allocate, unary, m.AllocateRequest, m.AllocateResponse),
        }

    def devices(self) -> messages.Devices:
        """Return what there is now: nothing where the node never was, unhealthy devices where it has gone."""
        there = self._is_there()
        self._known = self._known or there
        health = messages.HEALTHY if there else messages.UNHEALTHY
        found = (messages.Device(f"{self.name}{number}", health) for number in range(COUNT if self._known else 0))
        return messages.Devices(tuple(found))

    async def _options(self, stream: Stream[Any, Any]) -> None:
        await stream.recv_message()
        await stream.send_message(messages.Options())

    async def _list(self, stream: Stream[Any, Any]) -> None:
        await stream.recv_message()
        async for each in self._lists():
            await stream.send_message(each)

    async def _lists(self) -> AsyncIterator[messages.Devices]:
        seen = look([self.path])
        last = self.devices()
        yield last
        async for _ in changes([self.path], seen, self._seconds):
            found = self.devices()
            if found != last:
                last = found
                yield last

    async def _allocate(self, stream: Stream[Any, Any]) -> None:
        request = await stream.recv_message() or messages.AllocateRequest()
        try:
            host_path = await asyncio.to_thread(self._for_everybody)
        except OSError as error:
            raise GRPCError(Status.FAILED_PRECONDITION, f"{self.path} cannot be given out: {error}") from error
        spec = messages.DeviceSpec(str(self.path), str(host_path), "rw")
        answer = messages.ContainerResponse((spec,))
        await stream.send_message(messages.AllocateResponse(tuple(answer for _ in request.containers)))

    def _is_there(self) -> bool:
        try:
            return stat.S_ISCHR(self.path.stat().st_mode)
        except OSError:
            return False

    def _for_everybody(self) -> Path:
        """Return the device's node that a process of any user may open."""
        found = self.path.stat()
        if not stat.S_ISCHR(found.st_mode):
            raise FileNotFoundError(f"{self.path} is not a device node")
        if found.st_mode & EVERYBODY == EVERYBODY:
            return self.path
        self._own.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._own.exists() or self._own.stat().st_rdev != found.st_rdev:
            self._own.unlink(missing_ok=True)
            os.mknod(self._own, stat.S_IFCHR | 0o600, found.st_rdev)
            self._own.chmod(0o666)
        return self._own
