"""A queue of keys that need work, where a key is never handled twice at the same time and never forgotten.

The semantics are those of client-go's work queue: a key added while it waits is one entry; a key added while it is
being worked on is queued again when that work is done. So a handler may add a key for every change that it sees, and
the reconciler only has to look at the present state. It belongs to one event loop and is not thread-safe.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

from polyvisor.kube.backoff import Backoff

K = TypeVar("K", bound=Hashable)


class ShutDown(Exception):
    """The queue was shut down and is empty."""


class Watcher(Protocol):
    """Who wants to know what a queue does; seconds are what a key waited, or was worked on."""

    added: Callable[[], None]
    retried: Callable[[], None]
    waited: Callable[[float], None]
    worked: Callable[[float], None]


class WorkQueue(Generic[K]):
    """The queue; every ``get`` must be followed by one ``done``."""

    def __init__(self, backoff: Backoff | None = None) -> None:
        self._backoff = backoff or Backoff(0.05, 60.0)
        self._ready: deque[K] = deque()
        self._dirty: set[K] = set()
        self._processing: set[K] = set()
        self._failures: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._closed = False
        self._queued_at: dict[K, float] = {}
        self._taken_at: dict[K, float] = {}
        self.watched: Watcher | None = None

    def __len__(self) -> int:
        return len(self._ready)

    def ages(self, now: float) -> list[float]:
        """Return for how many seconds each key that is being worked on has been, by the monotonic clock."""
        return [now - at for at in self._taken_at.values()]

    def add(self, key: K) -> None:
        """Ask for work on ``key``."""
        if self._closed or key in self._dirty:
            return
        self._dirty.add(key)
        self._queued_at[key] = time.monotonic()
        if self.watched is not None:
            self.watched.added()
        if key not in self._processing:
            self._push(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Ask for work on ``key`` in some seconds; of several delays the earliest counts."""
        if self._closed:
            return
        if seconds <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        pending = self._timers.get(key)
        if pending is not None:
            if pending.when() <= loop.time() + seconds:
                return
            pending.cancel()
        self._timers[key] = loop.call_later(seconds, self._due, key)

    def add_rate_limited(self, key: K) -> float:
        """Ask for work on ``key`` after a delay that grows with each failure; return the delay."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = self._backoff.delay(failures)
        if self.watched is not None:
            self.watched.retried()
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """Start the delays of ``key`` from the beginning: the work succeeded."""
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        """Return how often ``key`` was put back since it was last forgotten."""
        return self._failures.get(key, 0)

    async def get(self) -> K:
        """Wait for a key and take it; raise :class:`ShutDown` when there will be none."""
        while not self._ready:
            if self._closed:
                raise ShutDown
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                elif self._ready:
                    self._wake()
                raise
        key = self._ready.popleft()
        self._processing.add(key)
        self._dirty.discard(key)
        self._taken_at[key] = now = time.monotonic()
        since = self._queued_at.pop(key, now)
        if self.watched is not None:
            self.watched.waited(now - since)
        return key

    def done(self, key: K) -> None:
        """Give ``key`` back; if it was added meanwhile it is queued again."""
        self._processing.discard(key)
        since = self._taken_at.pop(key, None)
        if self.watched is not None and since is not None:
            self.watched.worked(time.monotonic() - since)
        if key in self._dirty:
            self._push(key)
        elif self._quiet():
            for future in self._idle:
                if not future.done():
                    future.set_result(None)
            self._idle.clear()

    async def join(self) -> None:
        """Wait until nothing is queued and nothing is being worked on (delayed keys are not counted)."""
        if self._quiet():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._idle.append(future)
        await future

    def shutdown(self) -> None:
        """Take no more keys; ``get`` hands out what is queued, then raises."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        while self._waiters:
            self._wake()

    def _quiet(self) -> bool:
        return not self._dirty and not self._processing

    def _due(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)

    def _push(self, key: K) -> None:
        self._ready.append(key)
        self._wake()

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
