"""Which of this node's user and group ids are a machine's alone: its guest's users', or its hypervisor's.

What is given is written down before a guest starts, and is free again when nothing of its Pod can run any more: so two
guests that run never have an id in common, whatever became of the agent meanwhile.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

from polyvisor.agent.errors import AgentError
from polyvisor.agent.files import safepath
from polyvisor.api import Obj
from polyvisor.domain import ids
from polyvisor.drivers.base import Driver


class IdRanges:
    """Gives ranges; ``file`` remembers to which Pods, ``over`` tells whether what a Pod has run is surely gone."""

    def __init__(self, file: Path, over: Callable[[str], bool]) -> None:
        self._file = file
        self._over = over
        self._lock = asyncio.Lock()

    async def given(self, pod: Obj, driver: Driver) -> int:
        """Return the first id of a Pod's machine, the same whenever it is asked for; 0 if its driver needs none."""
        return await self._of(pod) if driver.own_ids else 0

    async def user(self, pod: Obj, driver: Driver) -> int:
        """Return the user that a Pod's launcher and hypervisor become, always the same; 0 if its driver has none."""
        return await self._of(pod) if driver.own_user else 0

    async def _of(self, pod: Obj) -> int:
        async with self._lock:
            return await asyncio.to_thread(self._given, str(pod["metadata"]["uid"]))

    def _given(self, pod_uid: str) -> int:
        taken = self._taken()
        if pod_uid not in taken:
            others = {first for uid, first in taken.items() if not self._over(uid)}
            first = next((first for first in ids.FIRST if first not in others), None)
            if first is None:
                raise AgentError(f"all {len(ids.FIRST)} ranges of user ids of this node are other machines'")
            taken = {uid: kept for uid, kept in taken.items() if kept in others} | {pod_uid: first}
            safepath.write_atomic(self._file, json.dumps(taken).encode())
        return taken[pod_uid]

    def _taken(self) -> dict[str, int]:
        try:
            return {str(uid): int(first) for uid, first in json.loads(self._file.read_text()).items()}
        except FileNotFoundError:
            return {}
