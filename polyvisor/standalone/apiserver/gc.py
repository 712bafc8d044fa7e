"""What the server does by itself: collects dependents, empties namespaces, ages Events, forgets old history.

One task looks at the whole (small, in-memory) state whenever something was deleted or marked for deletion, and every
half minute besides. A pass is idempotent: what could not be done is done in the next.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable

from polyvisor.api.resources import EVENTS, NAMESPACES, Resource, by_kind

from .clock import parsed
from .deletion import FOREGROUND, ORPHAN, DeleteOptions, Deleter
from .errors import Obj, StatusError
from .kinds import SERVED
from .registry import Options, Registry, clone, key_of, kind_of
from .store import Change

_log = logging.getLogger(__name__)
_BACKGROUND = DeleteOptions(policy="Background")
_INTERNAL = Options(manager="apiserver")
EVENT_TTL = 3600.0


class Collector:
    """The background task of one server."""

    def __init__(self, registry: Registry, period: float = 30.0, event_ttl: float = EVENT_TTL) -> None:
        self._registry = registry
        self._store = registry.store
        self._deleter = Deleter(registry)
        self._period = period
        self._event_ttl = event_ttl
        self._wake = asyncio.Event()

    def notice(self, change: Change) -> None:
        """Look again soon if the change may leave work."""
        metadata = change.obj["metadata"]
        owned = change.type == "ADDED" and metadata.get("ownerReferences")
        if owned or change.type == "DELETED" or metadata.get("deletionTimestamp"):
            self._wake.set()

    async def run(self) -> None:
        """Work until cancelled."""
        self._store.listeners.append(self.notice)
        try:
            while True:
                self._wake.clear()
                try:
                    await self.once()
                except Exception:
                    _log.exception("garbage collection failed; it is tried again")
                try:
                    async with asyncio.timeout(self._period):
                        await self._wake.wait()
                except TimeoutError:
                    self._store.compact()
        finally:
            self._store.listeners.remove(self.notice)

    async def once(self) -> None:
        """Do one pass over everything."""
        dependents = self._dependents()
        for resource, obj in list(self._all()):
            metadata = obj["metadata"]
            try:
                if metadata.get("ownerReferences"):
                    await self._check_owners(resource, obj)
                if metadata.get("deletionTimestamp"):
                    await self._finish(resource, obj, dependents.get(metadata["uid"], []))
            except StatusError as error:
                if error.code not in (404, 409):
                    raise
        await self._expire_events()

    def _all(self) -> Iterable[tuple[Resource, Obj]]:
        for resource in SERVED:
            for obj in self._store.select(kind_of(resource)):
                yield resource, obj

    def _dependents(self) -> dict[str, list[tuple[Resource, Obj]]]:
        found: dict[str, list[tuple[Resource, Obj]]] = {}
        for resource, obj in self._all():
            for owner in obj["metadata"].get("ownerReferences", []):
                found.setdefault(owner["uid"], []).append((resource, obj))
        return found

    def _owner(self, obj: Obj, reference: Obj) -> Obj | bool | None:
        """Return the owner, None if it is gone, or True if its kind is not known here and so cannot be judged."""
        resource = by_kind(reference["apiVersion"], reference["kind"])
        if resource is None:
            return True
        namespace = obj["metadata"].get("namespace", "")
        found = self._store.get(*key_of(resource, namespace, reference["name"]))
        return found if found is not None and found["metadata"]["uid"] == reference["uid"] else None

    async def _check_owners(self, resource: Resource, obj: Obj) -> None:
        metadata = obj["metadata"]
        owners = [(one, self._owner(obj, one)) for one in metadata["ownerReferences"]]
        gone = [one["uid"] for one, owner in owners if owner is None]
        waiting = [one["uid"] for one, owner in owners if isinstance(owner, dict) and _in_foreground(owner)]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        if len(gone) + len(waiting) == len(owners):
            policy = DeleteOptions(policy="Foreground" if waiting else "Background", uid=metadata["uid"])
            if not metadata.get("deletionTimestamp"):
                await self._deleter.delete(resource, namespace, name, policy)
        elif gone:
            await self._disown(resource, obj, {*gone, *waiting})

    async def _disown(self, resource: Resource, obj: Obj, owners: set[str]) -> None:
        metadata = obj["metadata"]

        def without(old: Obj) -> Obj:
            new: Obj = clone(old)
            left = [one for one in old["metadata"].get("ownerReferences", []) if one["uid"] not in owners]
            new["metadata"]["ownerReferences"] = left
            if not left:
                del new["metadata"]["ownerReferences"]
            return new

        await self._registry.change(
            resource, metadata.get("namespace", ""), metadata["name"], without, _INTERNAL, internal=True
        )

    async def _finish(self, resource: Resource, obj: Obj, dependents: list[tuple[Resource, Obj]]) -> None:
        finalizers = obj["metadata"].get("finalizers", [])
        uid = obj["metadata"]["uid"]
        if ORPHAN in finalizers:
            for kind, dependent in dependents:
                await self._disown(kind, dependent, {uid})
            await self._release(resource, obj, ORPHAN)
        blocked = any(_blocks(one, uid) and self._exists(kind, one) for kind, one in dependents)
        if FOREGROUND in finalizers and not blocked:
            await self._release(resource, obj, FOREGROUND)
        if resource is NAMESPACES:
            await self._empty(obj)

    def _exists(self, resource: Resource, obj: Obj) -> bool:
        metadata = obj["metadata"]
        found = self._store.get(*key_of(resource, metadata.get("namespace", ""), metadata["name"]))
        return found is not None and found["metadata"]["uid"] == metadata["uid"]

    async def _release(self, resource: Resource, obj: Obj, finalizer: str) -> None:
        metadata = obj["metadata"]

        def released(old: Obj) -> Obj:
            new: Obj = clone(old)
            left = [one for one in old["metadata"].get("finalizers", []) if one != finalizer]
            new["metadata"]["finalizers"] = left
            if not left:
                del new["metadata"]["finalizers"]
            return new

        await self._registry.change(
            resource, metadata.get("namespace", ""), metadata["name"], released, _INTERNAL, internal=True
        )

    async def _empty(self, namespace: Obj) -> None:
        """Delete what a namespace holds; let it go when nothing is left."""
        name = namespace["metadata"]["name"]
        left = 0
        for resource in SERVED:
            if not resource.namespaced:
                continue
            for obj in self._store.select(kind_of(resource), name):
                if obj["metadata"].get("deletionTimestamp"):
                    left += 1
                    continue
                _, gone = await self._deleter.delete(resource, name, obj["metadata"]["name"], _BACKGROUND)
                left += not gone
        if left:
            return

        def emptied(old: Obj) -> Obj:
            return {**clone(old), "spec": {}}

        await self._registry.change(NAMESPACES, "", name, emptied, _INTERNAL, "finalize", internal=True)

    async def _expire_events(self) -> None:
        limit = time.time() - self._event_ttl
        for event in self._store.select(kind_of(EVENTS)):
            metadata = event["metadata"]
            times = (event.get("lastTimestamp"), event.get("eventTime"), metadata["creationTimestamp"])
            newest = max((moment.timestamp() for moment in map(parsed, times) if moment), default=0.0)
            if newest < limit:
                await self._deleter.delete(EVENTS, metadata["namespace"], metadata["name"], _BACKGROUND)


def _in_foreground(owner: Obj) -> bool:
    metadata = owner["metadata"]
    return bool(metadata.get("deletionTimestamp")) and FOREGROUND in metadata.get("finalizers", [])


def _blocks(obj: Obj, owner: str) -> bool:
    references = obj["metadata"].get("ownerReferences", [])
    return any(one["uid"] == owner and one.get("blockOwnerDeletion") is True for one in references)
