"""Keeps the image cache of a node without a kubelet free of what no machine uses any more."""

from __future__ import annotations

import asyncio
import logging

from polyvisor.agent.errors import AgentError
from polyvisor.agent.images.store import ImageStore
from polyvisor.agent.launchers.processes import WORKSHOPS, Launchers
from polyvisor.agent.storage.prepared import used_trees

INTERVAL_SECONDS = 3600.0
log = logging.getLogger("polyvisor.images")


async def run(images: ImageStore, launchers: Launchers) -> None:
    """Prune at intervals, until cancelled."""
    while True:
        try:
            used = await asyncio.to_thread(used_trees, launchers.root, launchers.root.with_name(WORKSHOPS))
            await asyncio.to_thread(images.prune, used)
        except (OSError, ValueError, KeyError, AgentError) as error:
            log.warning("the image cache cannot be pruned: %s", error)
        await asyncio.sleep(INTERVAL_SECONDS)
