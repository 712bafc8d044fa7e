"""A local, always current copy of the objects of one kind, and a call for each change.

List, then watch from the list's resourceVersion; when the watch ends in order, watch again from the last
version seen; when it ends in any other way (410, a broken stream, a server that is down), list again after a pause
and compare. So a change may be seen later or merged with the next, but never lost, and a deletion that happened while
nobody watched is reported from the comparison. Objects handed out belong to the copy: read them, do not change them.
Whoever writes an object gives the answer to :meth:`Informer.learn`, so that the next step starts from it and not from
what was there before, which the API server would refuse as a conflict.
Who owns which field (``managedFields``) is not kept: it is much of an object's size, nobody here reads it, and an API
server keeps it by itself when an object is written back without it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Self, TypeVar

from polyvisor.kube.backoff import Backoff
from polyvisor.kube.client import PAGE_SIZE, KubeClient
from polyvisor.kube.errors import ApiError
from polyvisor.kube.tasks import end_task

if TYPE_CHECKING:
    from polyvisor.api import Obj
    from polyvisor.api.resources import Resource

log = logging.getLogger("polyvisor.informer")
T = TypeVar("T")
Key = tuple[str, str]
Handler = Callable[["Obj | None", "Obj | None"], None]
"""Called with (None, new) for an addition, (old, new) for a change or resync, (old, None) for a deletion."""
Index = Callable[["Obj"], Iterable[str]]

DEFAULT_BACKOFF = Backoff(0.1, 30.0, 0.5)


def key_of(obj: Obj) -> Key:
    """Return (namespace, name); the namespace is empty for objects without one."""
    metadata = obj["metadata"]
    return metadata.get("namespace") or "", metadata["name"]


class Informer:
    """Keeps the copy. ``run`` is the loop; ``start`` and ``stop`` own a task that runs it."""

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        *,
        resync_seconds: float = 0.0,
        watch_seconds: int = 300,
        page_size: int = PAGE_SIZE,
        backoff: Backoff = DEFAULT_BACKOFF,
    ) -> None:
        self.resource = resource
        self.relists = 0
        self._client = client
        self._namespace = namespace
        self._labels = label_selector
        self._fields = field_selector
        self._resync_seconds = resync_seconds
        self._watch_seconds = watch_seconds
        self._page_size = page_size
        self._backoff = backoff
        self._identity = {"apiVersion": resource.api_version, "kind": resource.kind}
        self._store: dict[Key, Obj] = {}
        self._indexers: dict[str, Index] = {}
        self._indexes: dict[str, dict[str, set[Key]]] = {}
        self._handlers: list[Handler] = []
        self._synced = asyncio.Event()
        self._changed = asyncio.Event()
        self._failures = 0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        await self.synced()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Begin; returns at once."""
        if self._task is None:
            self._task = asyncio.create_task(self.run(), name=f"informer-{self.resource.plural}")

    async def stop(self) -> None:
        """End the task that ``start`` began; the copy stays as it is."""
        task, self._task = self._task, None
        if task is not None:
            await end_task(task)

    async def synced(self) -> None:
        """Wait until the first list is in the copy; if the loop broke down, raise what broke it."""
        waiting = asyncio.create_task(self._synced.wait())
        try:
            watched = {waiting, self._task} if self._task is not None else {waiting}
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if self._task is not None and self._task.done():
                self._task.result()
        finally:
            waiting.cancel()

    @property
    def has_synced(self) -> bool:
        """Whether the first list is in the copy."""
        return self._synced.is_set()

    def on_change(self, handler: Handler) -> None:
        """Call ``handler`` for each change from now on, and now for all objects that are there.

        Handlers are quick and do not raise; one that does is logged and called again for the next change.
        """
        self._handlers.append(handler)
        for obj in list(self._store.values()):
            _call(handler, None, obj)

    def add_index(self, name: str, values: Index) -> None:
        """Keep an index: ``by_index(name, value)`` returns the objects for which ``values(obj)`` held ``value``."""
        self._indexers[name] = values
        self._indexes[name] = {}
        for key, obj in self._store.items():
            for value in values(obj):
                self._indexes[name].setdefault(value, set()).add(key)

    def by_index(self, name: str, value: str) -> list[Obj]:
        """Return the objects under ``value`` of an index."""
        return [self._store[key] for key in sorted(self._indexes[name].get(value, ()))]

    def get(self, namespace: str | None, name: str) -> Obj | None:
        """Return one object, or None."""
        return self._store.get((namespace or "", name))

    def items(self, namespace: str | None = None) -> list[Obj]:
        """Return all objects, or those of one namespace."""
        return [obj for key, obj in self._store.items() if namespace is None or key[0] == namespace]

    def learn(self, obj: Obj) -> None:
        """Take in what the API server answered to a write, before the watch tells of it.

        Only a newer version of the same object is taken: one that the copy does not hold may have been deleted since.
        """
        old = self._store.get(key_of(obj))
        if old is not None and old["metadata"].get("uid") == obj["metadata"].get("uid") and _is_newer(obj, old):
            self._put(self._identity | obj)
            self._notify()

    async def wait_until(self, predicate: Callable[[Self], T], seconds: float | None = 30.0) -> T:
        """Wait until ``predicate(self)`` is true (looked at after each change) and return what it gave."""
        async with asyncio.timeout(seconds):
            while True:
                if found := predicate(self):
                    return found
                await self._changed.wait()

    async def run(self) -> None:
        """List and watch for ever."""
        async with asyncio.TaskGroup() as group:
            if self._resync_seconds:
                group.create_task(self._resync())
            await self._follow()

    async def _follow(self) -> None:
        while True:
            try:
                version = await self._relist()
                while True:
                    version = await self._watch(version)
                    self._failures = 0
            except ApiError as error:
                self._failures += 1
                if error.expired and self._failures == 1:
                    log.debug("%s: %s; listing again", self.resource.plural, error)
                    continue
                delay = self._backoff.delay(self._failures - 1)
                log.info("%s: %s; listing again in %.2f s", self.resource.plural, error, delay)
                await asyncio.sleep(delay)

    async def _relist(self) -> str:
        items, version = await self._client.list_with_version(
            self.resource,
            self._namespace,
            label_selector=self._labels,
            field_selector=self._fields,
            page_size=self._page_size,
        )
        self.relists += 1
        present = {key_of(item): item for item in items}
        for key in [key for key in self._store if key not in present]:
            self._remove(key, None)
        for item in items:
            self._put(item)
        self._synced.set()
        self._notify()
        return version

    async def _watch(self, version: str) -> str:
        moved = False
        stream = self._client.watch(
            self.resource,
            self._namespace,
            resource_version=version,
            label_selector=self._labels,
            field_selector=self._fields,
            timeout_seconds=self._watch_seconds,
        )
        began = asyncio.get_running_loop().time()
        async with aclosing(stream) as events:
            async for event in events:
                version = event.object["metadata"]["resourceVersion"]
                moved = True
                self._failures = 0
                if event.type == "BOOKMARK":
                    continue
                if event.type == "DELETED":
                    self._remove(key_of(event.object), event.object)
                elif not self._is_past(event.object):
                    self._put(self._identity | event.object)
                self._notify()
        if not moved and asyncio.get_running_loop().time() - began < 1.0:
            raise ApiError(0, "WatchEnded", "the watch ended at once without an event")
        return version

    def _is_past(self, obj: Obj) -> bool:
        """Whether the copy holds a later version of this very object already, learnt from a write."""
        held = self._store.get(key_of(obj))
        return held is not None and held["metadata"].get("uid") == obj["metadata"].get("uid") and _is_newer(held, obj)

    def _put(self, obj: Obj) -> None:
        obj["metadata"].pop("managedFields", None)
        key = key_of(obj)
        old = self._store.get(key)
        if old is not None:
            before, now = old["metadata"], obj["metadata"]
            if before.get("resourceVersion") == now.get("resourceVersion") and before.get("uid") == now.get("uid"):
                return
            if before.get("uid") != now.get("uid"):
                self._remove(key, None)
                old = None
        self._store[key] = obj
        self._reindex(key, old, obj)
        self._tell(old, obj)

    def _remove(self, key: Key, last: Obj | None) -> None:
        old = self._store.pop(key, None)
        if old is None:
            return
        self._reindex(key, old, None)
        self._tell(old if last is None else self._identity | last, None)

    def _reindex(self, key: Key, old: Obj | None, new: Obj | None) -> None:
        for name, values in self._indexers.items():
            index = self._indexes[name]
            before = set(values(old)) if old is not None else set()
            after = set(values(new)) if new is not None else set()
            for value in before - after:
                index[value].discard(key)
                if not index[value]:
                    del index[value]
            for value in after - before:
                index.setdefault(value, set()).add(key)

    def _tell(self, old: Obj | None, new: Obj | None) -> None:
        for handler in self._handlers:
            _call(handler, old, new)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(self._resync_seconds)
            for obj in list(self._store.values()):
                self._tell(obj, obj)


def _is_newer(one: Obj, other: Obj) -> bool:
    """Whether a version comes after another, by their numbers; what is no number tells nothing."""
    first, second = (str(obj["metadata"].get("resourceVersion") or "") for obj in (one, other))
    return first.isdecimal() and second.isdecimal() and int(first) > int(second)


def _call(handler: Handler, old: Obj | None, new: Obj | None) -> None:
    try:
        handler(old, new)
    except Exception:
        log.exception("a handler failed for %s", key_of(new or old or {"metadata": {"name": "?"}}))
