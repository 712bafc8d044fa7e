"""Ending a task so that being cancelled oneself is never mistaken for the task's end.

``task.cancel()`` followed by ``suppress(CancelledError)`` around ``await task`` swallows a cancellation of the waiting
task that arrives in the same moment, and that task then never ends. ``asyncio.wait`` keeps the two apart.
"""

from __future__ import annotations

import asyncio
from typing import Any


async def end_task(task: asyncio.Task[Any]) -> BaseException | None:
    """Cancel a task and wait for its end; return what it ended with, None for a result or a cancellation."""
    task.cancel()
    await asyncio.wait([task])
    return None if task.cancelled() else task.exception()
