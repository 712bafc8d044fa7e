"""What users do to machines on an endpoint: console, log, pause, restart; each by libvirt's own means on the host."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from polyvisor.agent import logs
from polyvisor.agent.endpoint import telling
from polyvisor.agent.endpoint.keeper import Keeper
from polyvisor.agent.endpoint.link import HostError, answer_of
from polyvisor.agent.endpoint.starting import owner_of
from polyvisor.agent.streams import ByteStream, Stream
from polyvisor.api import Obj
from polyvisor.api.names import CONSOLE_CONTAINER
from polyvisor.api.owners import controller_uid
from polyvisor.api.resources import VMIS

if TYPE_CHECKING:
    from polyvisor.agent.endpoint.agent import EndpointAgent

OPERATIONS = {"pause": "pause", "unpause": "resume", "softreboot": "reboot", "reset": "reset"}
"""What can be done to a machine, by KubeVirt's word, and the launcher's word for it."""


class EndpointAccess:
    """The machines of one endpoint. All methods raise :class:`HostError`."""

    def __init__(self, keeper: Keeper, agent: EndpointAgent) -> None:
        self._keeper = keeper
        self._agent = agent

    async def ask(self, vmi: Obj, operation: str, **arguments: Any) -> Obj:
        """Do something to a machine; the operations are those of :data:`OPERATIONS`."""
        if operation not in OPERATIONS:
            raise HostError(f"{operation} is not possible on an endpoint in this release", "unknown-op")
        await self._keeper.ask(OPERATIONS[operation], **owner_of(vmi, self._agent.cluster))
        return {}

    async def open(self, vmi: Obj, stream: str, **arguments: Any) -> ByteStream:
        """Open the console of a machine; there are no other streams."""
        if stream != "console":
            raise HostError(f"{stream} is not possible on an endpoint in this release", "unknown-op")
        reader, writer = await self._keeper.stream(op="console", **owner_of(vmi, self._agent.cluster))
        try:
            await answer_of(reader)
        except BaseException:
            writer.close()
            raise
        return Stream(reader, writer)

    async def read_log(
        self, pod: Obj, container: str = "", *, follow: bool = False, tail: int | None = None
    ) -> AsyncIterator[bytes]:
        """Give what a guest wrote to its console, or the messages of the process that holds the connection."""
        path = self._keeper.folder / "launcher.log"
        if container == CONSOLE_CONTAINER:
            vmi = self._agent.machine(controller_uid(pod, VMIS.kind))
            path = self._keeper.folder / "consoles" / f"{telling.uuid_of(vmi) if vmi else 'none'}.log"
        async for chunk in logs.read_log(path, follow=follow, tail=tail):
            yield chunk
