"""Machines that move between this node and others: both sides of it, and the launchers that they leave behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvisor.agent.launchers.launcher_pods import pod_id
from polyvisor.agent.link.connection import Link
from polyvisor.agent.live.migration_source import Source
from polyvisor.agent.live.migration_target import Target
from polyvisor.api import Obj
from polyvisor.api.migrations import job_of, runs_in

if TYPE_CHECKING:
    from polyvisor.agent.launchers.processes import Launchers
    from polyvisor.agent.vmi import MachineAgent
    from polyvisor.drivers import DriverRegistry
    from polyvisor.kube import EventRecorder, Informer, KubeClient
    from polyvisor.process.handlers import Handlers


class Moves:
    """The moves of one node. Nothing moves away from it before :meth:`between` was called."""

    def __init__(
        self,
        client: KubeClient,
        events: EventRecorder,
        registry: DriverRegistry,
        launchers: Launchers,
        pods: Informer,
        vmis: Informer,
        machines: MachineAgent,
    ) -> None:
        self._client, self._events = client, events
        self._launchers, self._vmis = launchers, vmis
        self._machines = machines
        self.target = Target(client, registry, launchers, pods, machines.node_name, machines.rendered)
        """What takes machines in that move to this node."""

    def between(self, handlers: Handlers) -> None:
        """Have machines move to the nodes of other agents; call before anything runs."""
        where = self._launchers, self._vmis, self._machines.node_name, self._machines.look
        self._machines.source = Source(self._client, self._events, *where, handlers)

    async def settle(self, vmi: Obj, pod: Obj, link: Link) -> bool:
        """See to a launcher that a machine has left, or is to come into; return whether it is such a one."""
        source = self._machines.source
        if source is not None and source.has_left(vmi, pod):
            await source.leave(pod, link)
            return True
        if not job_of(pod):
            return False
        if await self.target.settle(vmi, pod, link):
            await self._launchers.quit(pod_id(pod))
            return True
        return not runs_in(pod, vmi)

    async def stop(self) -> None:
        """Let go of what is under way."""
        if self._machines.source is not None:
            await self._machines.source.stop()
