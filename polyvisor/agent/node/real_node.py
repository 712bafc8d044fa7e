"""A Node that a kubelet keeps: the agent adds what it alone knows, and leaves the rest to whose it is.

That is the labels and the report of what works, the heartbeat by which others see that an agent is there, and the
label that lets machines be scheduled, which goes when the agent stops in order.
"""

from __future__ import annotations

import asyncio

from polyvisor.agent.node.registration import HEARTBEAT_SECONDS, NodeKeeper, now
from polyvisor.api import Obj, names
from polyvisor.api.resources import NODES


class RealNodeKeeper(NodeKeeper):
    """Writes the agent's part of a Node."""

    advises = False

    async def run(self) -> None:
        """Probe first, then say that machines may come; both again from time to time."""

        async def heartbeat() -> None:
            await self.probed.wait()
            await self.heartbeat()

        async with asyncio.TaskGroup() as group:
            self._start_probing(group)
            group.create_task(self._repeat(heartbeat, HEARTBEAT_SECONDS), name="node-heartbeat")

    async def heartbeat(self) -> None:
        """Say that an agent looks after the node's machines."""
        annotations = {names.HEARTBEAT_ANNOTATION: now()}
        await self._mark({"annotations": annotations, "labels": {names.NODE_SCHEDULABLE_LABEL: "true"}})

    async def stopped(self) -> None:
        """Say that nobody does any more, so that no machine is sent here; those that run go on."""
        await self._mark({"labels": {names.NODE_SCHEDULABLE_LABEL: "false"}})

    async def _mark(self, metadata: Obj) -> None:
        await self._client.patch(NODES, self._name, {"metadata": metadata})

    async def _node(self) -> Obj:
        return await self._client.get(NODES, self._name)
