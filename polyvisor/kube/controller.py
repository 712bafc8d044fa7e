"""The loop of a controller: take a key, bring the world in line with it, put it back if that failed.

``reconcile`` gets a key and looks at the present state itself. What it returns is the number of seconds after which it
wants to be called again without any event, or None. A conflict is no failure worth a word in the log: somebody wrote
first, and the newer state is on its way. Each line of the log carries the controller and the object.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from polyvisor.kube import about
from polyvisor.kube.errors import ApiError
from polyvisor.kube.metrics import watch_queue
from polyvisor.kube.queue import ShutDown, WorkQueue

K = TypeVar("K", bound=Hashable)


class Controller(Generic[K]):
    """Runs ``reconcile`` over the keys of a queue with a number of workers."""

    def __init__(
        self,
        name: str,
        queue: WorkQueue[K],
        reconcile: Callable[[K], Awaitable[float | None]],
        workers: int = 2,
        expected: tuple[type[Exception], ...] = (),
        slow: float | None = None,
    ) -> None:
        """``expected`` are errors that happen where nothing is broken: a line in the log, without a traceback.

        A worker that has been with one key for ``slow`` seconds gets a substitute, so that objects whose other end does
        not answer hold nobody else up.
        """
        self.name = name
        self.queue = queue
        self._reconcile = reconcile
        self._workers = workers
        self._expected = expected
        self._slow = slow
        self._log = logging.getLogger(f"polyvisor.{name}")
        watch_queue(name, queue)

    async def run(self) -> None:
        """Work until cancelled or until the queue is shut down."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._work(group), name=f"{self.name}-{number}")

    async def _work(self, group: asyncio.TaskGroup) -> None:
        replaced = False

        def replace() -> None:
            nonlocal replaced
            replaced = True
            group.create_task(self._work(group), name=f"{self.name}-more")

        while not replaced:
            try:
                key = await self.queue.get()
            except ShutDown:
                return
            about.work_on(self.name, key)
            timer = asyncio.get_running_loop().call_later(self._slow, replace) if self._slow is not None else None
            try:
                again = await self._reconcile(key)
            except ApiError as error:
                delay = self.queue.add_rate_limited(key)
                level = logging.DEBUG if error.conflict else logging.WARNING
                self._log.log(level, "%s: %s; again in %.2f s", key, error, delay)
            except self._expected as error:
                delay = self.queue.add_rate_limited(key)
                self._log.warning("%s: %s; again in %.2f s", key, error, delay)
            except Exception:
                delay = self.queue.add_rate_limited(key)
                self._log.exception("%s: failed; again in %.2f s", key, delay)
            else:
                self.queue.forget(key)
                if again is not None:
                    self.queue.add_after(key, again)
            finally:
                if timer is not None:
                    timer.cancel()
                self.queue.done(key)
