"""Ending a task so that being cancelled oneself is never mistaken for the task's end.

``task.cancel()`` followed by ``suppress(CancelledError)`` around ``await task`` swallows a cancellation of the waiting
task that arrives in the same moment, and that task then never ends. ``asyncio.wait`` keeps the two apart.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

AGAIN_SECONDS = 10.0
log = logging.getLogger("polyvisor.tasks")


async def end_task(task: asyncio.Task[Any]) -> BaseException | None:
    """Cancel a task and wait for its end; return what it ended with, None for a result or a cancellation.

    A task that goes on is cancelled again: a library below it may have swallowed the first one.
    """
    while not task.done():
        task.cancel()
        if not (await asyncio.wait([task], timeout=AGAIN_SECONDS))[0]:
            log.warning("%s goes on after being cancelled; cancelling it again", task.get_name())
    return None if task.cancelled() else task.exception()
