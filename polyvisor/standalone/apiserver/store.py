"""The store: every object, in memory for reading and in SQLite for keeping.

Reads never touch the disk: the whole state and a ring of recent changes live in memory and hold committed data only.
Writes go to the database's thread and come back, in order, on the event loop, where they change the state and reach
the watchers. Objects handed out are shared: whoever wants to change one copies it first.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

from .database import Change, Database, Done, Key, Mismatch, Write
from .errors import Obj, StorageError, expired

KEEP_CHANGES = 2000
KEEP_SECONDS = 600.0
MOST_CHANGES = 10000
WATCH_BACKLOG = 5000

__all__ = ["Change", "Mismatch", "StorageError", "Store", "Watch"]


class Watch:
    """One reader of changes. A reader that falls too far behind is cut off and has to list again."""

    def __init__(self, kind: str, namespace: str | None, backlog: Iterator[Change], rv: int) -> None:
        self.kind = kind
        self.namespace = namespace
        self.rv = rv
        self._changes: deque[Change] = deque(backlog)
        self._wake = asyncio.Event()
        self.closed = False

    def wants(self, key: Key) -> bool:
        """Tell whether a change of that object concerns this watch."""
        return key[0] == self.kind and (self.namespace is None or key[1] == self.namespace)

    def push(self, change: Change) -> None:
        """Hand over a change."""
        if len(self._changes) >= WATCH_BACKLOG:
            self.close()
        else:
            self._changes.append(change)
            self._wake.set()

    def close(self) -> None:
        """End the watch, for whoever is waiting on it too."""
        self.closed = True
        self._wake.set()

    @property
    def pending(self) -> bool:
        """Whether changes are there to be read."""
        return bool(self._changes)

    async def next(self, seconds: float | None = None) -> list[Change]:
        """Return the changes that are there, waiting for the first; an empty list after ``seconds`` or at the end."""
        if not self._changes and not self.closed:
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
        changes = list(self._changes)
        self._changes.clear()
        return changes


class Store:
    """Objects by (kind, namespace, name) with one sequence of versions. Belongs to one event loop."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database: Database | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._objects: dict[str, dict[tuple[str, str], Obj]] = {}
        self._ring: deque[Change] = deque()
        self._watches: set[Watch] = set()
        self.listeners: list[Callable[[Change], None]] = []
        self.rv = 0
        self.compacted = 0

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Store]:
        """Open, and close at the end."""
        await self.open()
        try:
            yield self
        finally:
            await self.close()

    async def open(self) -> None:
        """Open the file, read it and begin to take writes."""
        self._loop = asyncio.get_running_loop()
        database = await asyncio.to_thread(Database, self.path, self._deliver)
        try:
            objects, log, self.rv, self.compacted = await asyncio.to_thread(database.load)
        except BaseException:
            database.close()
            raise
        self.rv = max(self.rv, self.compacted)
        for (kind, namespace, name), obj, _ in objects:
            self._objects.setdefault(kind, {})[namespace, name] = obj
        self._ring.extend(log)
        self._database = database
        database.start()

    async def close(self) -> None:
        """End all watches, finish queued writes, close the file. May be called twice."""
        self.end_watches()
        database, self._database = self._database, None
        if database is not None:
            await asyncio.to_thread(database.close)

    def end_watches(self) -> None:
        """End all watches, so that nobody waits for a change that will not come."""
        for watch in list(self._watches):
            watch.close()

    # --- reading

    def get(self, kind: str, namespace: str, name: str) -> Obj | None:
        """Return an object, or None."""
        return self._objects.get(kind, {}).get((namespace, name))

    def select(self, kind: str, namespace: str | None = None) -> list[Obj]:
        """Return all objects of a kind, in one namespace or in all, ordered by namespace and name."""
        return [obj for _, obj in self._select(self._objects.get(kind, {}), namespace)]

    def list_at(self, kind: str, namespace: str | None, rv: int) -> list[Obj]:
        """Return the objects as they were at a version, by taking back what happened since."""
        self.check_version(rv)
        state = dict(self._objects.get(kind, {}))
        for change in reversed(self._ring):
            if change.rv <= rv:
                break
            if change.key[0] == kind:
                if change.previous is None:
                    state.pop(change.key[1:], None)
                else:
                    state[change.key[1:]] = change.previous
        return [obj for _, obj in self._select(state, namespace)]

    def kinds(self) -> list[str]:
        """Return the kinds that have objects."""
        return [kind for kind, objects in self._objects.items() if objects]

    def check_version(self, rv: int) -> None:
        """Raise 410 if the history after ``rv`` is no longer known."""
        if rv < self.compacted:
            raise expired(f"too old resource version: {rv} ({self.compacted})")

    @staticmethod
    def _select(objects: dict[tuple[str, str], Obj], namespace: str | None) -> list[tuple[tuple[str, str], Obj]]:
        return sorted(
            ((key, obj) for key, obj in objects.items() if namespace is None or key[0] == namespace),
            key=lambda item: item[0],
        )

    # --- writing

    async def put(self, key: Key, obj: Obj, expected: int) -> Obj:
        """Store an object whose version must be ``expected`` (0: must not exist). Return it as stored."""
        return (await self._write(Write(key, expected, _bare(obj)))).obj

    async def remove(self, key: Key, expected: int, last: Obj | None = None) -> Obj:
        """Remove an object at that version; return it as watchers see it leave."""
        return (await self._write(Write(key, expected, None, _bare(last) if last is not None else None))).obj

    async def _write(self, write: Write) -> Change:
        if self._database is None or self._loop is None:
            raise StorageError("the store is closed")
        future: asyncio.Future[Change] = self._loop.create_future()

        def done(result: Change | Exception) -> None:
            if future.done():  # the caller went away; the write stands
                return
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

        self._database.submit(write, done)
        return await future

    def _deliver(self, results: Sequence[tuple[Done, Change | Exception]]) -> None:
        """Take a batch over to the loop (called by the writer's thread)."""
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is gone: nobody is left to tell
            self._loop.call_soon_threadsafe(self._arrive, results)

    def _arrive(self, results: Sequence[tuple[Done, Change | Exception]]) -> None:
        for _, result in results:
            if isinstance(result, Change):
                self._take(result)
        for done, result in results:
            done(result)

    def _take(self, change: Change) -> None:
        kind, namespace, name = change.key
        if change.type == "DELETED":
            self._objects.get(kind, {}).pop((namespace, name), None)
        else:
            self._objects.setdefault(kind, {})[namespace, name] = change.obj
        self.rv = change.rv
        self._ring.append(change)
        for watch in self._watches:
            if watch.wants(change.key):
                watch.push(change)
        for listener in self.listeners:
            listener(change)

    # --- history

    @contextlib.contextmanager
    def watch(self, kind: str, namespace: str | None, since: int) -> Iterator[Watch]:
        """Watch a kind: all changes after version ``since``, then the coming ones. 410 if they are forgotten."""
        self.check_version(since)
        watch = Watch(kind, namespace, iter(()), since)
        for change in self._ring:
            if change.rv > since and watch.wants(change.key):
                watch.push(change)
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.discard(watch)

    def compact(self, keep: int = KEEP_CHANGES, seconds: float = KEEP_SECONDS) -> None:
        """Forget old changes: those beyond the last ``keep`` that are older than ``seconds``, and any excess."""
        limit = time.time() - seconds
        before = self.compacted
        while len(self._ring) > keep and (self._ring[0].at <= limit or len(self._ring) > max(keep, MOST_CHANGES)):
            before = self._ring.popleft().rv
        if before > self.compacted and self._database is not None:
            self.compacted = before
            self._database.compact(before)


def _bare(obj: Obj) -> Obj:
    metadata = {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}
    return {**obj, "metadata": metadata}
