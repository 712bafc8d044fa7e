"""What users do to machines on an endpoint: console, screen, agent, pause; each by libvirt's own means on the host."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyvisor.agent.files import logs
from polyvisor.agent.guests import agents as guests
from polyvisor.agent.launchers.launcher_pods import marked
from polyvisor.agent.link.streams import ByteStream, Stream, dial
from polyvisor.agent.live import paused
from polyvisor.agent.platform.endpoint import telling
from polyvisor.agent.platform.endpoint.guests import GuestLink, agent_call, screen, screenshot
from polyvisor.agent.platform.endpoint.keeper import Keeper
from polyvisor.agent.platform.endpoint.link import HostError, answer_of
from polyvisor.agent.platform.endpoint.starting import owner_of
from polyvisor.api import Obj
from polyvisor.api.names import CONSOLE_CONTAINER
from polyvisor.api.owners import controller_uid
from polyvisor.api.resources import VMIS

if TYPE_CHECKING:
    from polyvisor.agent.platform.endpoint.agent import EndpointAgent

OPERATIONS = {"pause": "pause", "unpause": "resume", "softreboot": "reboot", "reset": "reset"}
"""What can be done to a machine, by KubeVirt's word, and the launcher's word for it."""


def console_log(folder: Path, uid: str) -> Path:
    """Return where what a machine's guest wrote is, below an endpoint's folder; its launcher writes it."""
    return folder / "consoles" / f"{uid}.log"


async def _users(link: GuestLink) -> Obj:
    return {"items": await guests.users(link)}


async def _filesystems(link: GuestLink) -> Obj:
    return {"items": await guests.filesystems(link)}


ASKED: Mapping[str, Callable[[GuestLink], Awaitable[Obj]]] = {
    "guestosinfo": guests.everything,
    "userlist": _users,
    "filesystemlist": _filesystems,
}
"""What an agent inside a guest is asked."""


class EndpointAccess:
    """The machines of one endpoint. All methods raise :class:`HostError`, and :class:`LauncherError` for guests."""

    def __init__(self, keeper: Keeper, agent: EndpointAgent) -> None:
        self._keeper = keeper
        self._agent = agent

    async def ask(self, vmi: Obj, operation: str, **arguments: Any) -> Obj:
        """Do something to a machine; the operations are those of :data:`OPERATIONS`."""
        owner = owner_of(vmi, self._agent.cluster)
        if operation in ASKED:
            return await ASKED[operation](self._link(vmi))
        if operation not in OPERATIONS:
            raise HostError(f"{operation} is not possible on an endpoint in this release", "unknown-op")
        await self._keeper.ask(OPERATIONS[operation], **owner)
        await paused.shown(self._agent.vmis, vmi, operation)
        return {}

    def _link(self, vmi: Obj) -> GuestLink:
        """Return the way to the agent inside a guest."""
        driver = self._agent.driver_of(vmi)
        call = agent_call(driver) if driver is not None else ""
        if not call:
            raise HostError("libvirt reaches no agent inside this hypervisor's guests", "unknown-op")
        return GuestLink(self._keeper, owner_of(vmi, self._agent.cluster), call)

    async def open(self, vmi: Obj, stream: str, **arguments: Any) -> ByteStream:
        """Open ``console``, ``vnc`` (``preserve``), ``screenshot``, or a ``port`` (``port``, ``protocol``).

        Raises :class:`LauncherError` for a port that does not answer.
        """
        if stream == "port":
            return await self._port(vmi, int(arguments["port"]), str(arguments["protocol"]))
        owner = owner_of(vmi, self._agent.cluster)
        if stream == "vnc":
            return await screen(self._keeper, owner, preserve=bool(arguments.get("preserve")))
        if stream == "screenshot":
            return await screenshot(self._keeper, owner)
        if stream != "console":
            raise HostError(f"{stream} is not possible on an endpoint in this release", "unknown-op")
        reader, writer = await self._keeper.stream(op="console", **owner)
        try:
            await answer_of(reader)
        except BaseException:
            writer.close()
            raise
        return Stream(reader, writer)

    async def _port(self, vmi: Obj, port: int, protocol: str) -> ByteStream:
        """Open a port of a guest whose network can be reached from here, at an address that its host tells of.

        What the guest says of itself, or a status, is not connected to.
        """
        endpoint = self._keeper.endpoint
        told = await self._keeper.ask("addresses", uuid=telling.uuid_of(vmi), guest=False)
        address = telling.reachable(vmi, endpoint, told.get("interfaces"))
        if not address:
            name = endpoint["metadata"]["name"]
            raise HostError(
                "no address of the machine is known that can be reached from here: a network of "
                f"endpoint {name} has to be reachable: true with cidrs, and its host has to know the guest's lease",
                "unreachable-guest",
            )
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
        return await dial(address, port, protocol, socket.socket(family, kind))

    async def read_log(
        self, pod: Obj, container: str = "", *, follow: bool = False, tail: int | None = None
    ) -> AsyncIterator[bytes]:
        """Give what a guest wrote to its console, or the messages of the process that holds the connection."""
        path = self._keeper.folder / "launcher.log"
        if container == CONSOLE_CONTAINER:
            vmi = self._agent.machine(controller_uid(pod, VMIS.kind))
            own = vmi is not None and marked(pod, vmi)  # an owner is what a Pod's maker says
            path = console_log(self._keeper.folder, vmi["metadata"]["uid"] if vmi and own else "none")
        async for chunk in logs.read_log(path, follow=follow, tail=tail):
            yield chunk
