"""Kubernetes Events: what happened to an object, for the people who run ``describe``.

``event`` never waits and never fails: it queues, and ``run`` writes. The same event again does not make a new object
but raises the count of the first, and one object can cause only so many in a short time, so that a loop that fails
cannot flood the API server.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polyvisor.api.names import EventType
from polyvisor.api.resources import EVENTS
from polyvisor.api.times import stamp
from polyvisor.kube.client import KubeClient
from polyvisor.kube.errors import ApiError

if TYPE_CHECKING:
    from polyvisor.api import Obj

log = logging.getLogger("polyvisor.events")
QUEUED = 5000
REMEMBERED = 4096
BURST = 25
REFILL_SECONDS = 30.0
MESSAGE_LIMIT = 1024
Key = tuple[str, str, str, str, str, str]


@dataclass(slots=True)
class _Sent:
    namespace: str
    name: str
    count: int


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class EventRecorder:
    """Records Events in the name of one component; ``host`` is the node that it speaks for, if it is of one."""

    def __init__(self, client: KubeClient, component: str, host: str = "") -> None:
        self._client = client
        self._component = component
        self._source = {"component": component, **({"host": host} if host else {})}
        self._queue: asyncio.Queue[tuple[Key, Obj]] = asyncio.Queue(QUEUED)
        self._sent: OrderedDict[Key, _Sent] = OrderedDict()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def event(self, obj: Obj, type: EventType, reason: str, message: str) -> None:
        """Say that ``reason`` happened to ``obj``."""
        metadata = obj["metadata"]
        about = {
            "apiVersion": obj["apiVersion"],
            "kind": obj["kind"],
            "namespace": metadata.get("namespace"),
            "name": metadata["name"],
            "uid": metadata.get("uid"),
            "resourceVersion": metadata.get("resourceVersion"),
        }
        if not self._allowed(str(metadata.get("uid") or metadata["name"])):
            return
        now = stamp()
        text = message[:MESSAGE_LIMIT]
        namespace = metadata.get("namespace") or "default"
        event: Obj = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": namespace, "name": f"{metadata['name'][:200]}.{secrets.token_hex(8)}"},
            "involvedObject": {k: v for k, v in about.items() if v},
            "type": str(type),
            "reason": str(reason),
            "message": text,
            "source": self._source,
            "reportingComponent": self._component,
            "reportingInstance": self._component,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        key = (obj["kind"], namespace, metadata["name"], str(metadata.get("uid")), type + reason, text)
        try:
            self._queue.put_nowait((key, event))
        except asyncio.QueueFull:
            log.warning("event dropped: %s %s: %s", metadata["name"], reason, text)

    async def run(self) -> None:
        """Write what is recorded, until cancelled."""
        while True:
            key, event = await self._queue.get()
            try:
                await self._write(key, event)
            except ApiError as error:
                log.info("event not written: %s: %s", event["reason"], error)
            except Exception:
                log.exception("event not written: %s", event["reason"])
            finally:
                self._queue.task_done()

    async def flush(self) -> None:
        """Wait until all that was recorded is written; ``run`` must be running."""
        await self._queue.join()

    async def _write(self, key: Key, event: Obj) -> None:
        before = self._sent.get(key)
        if before is not None:
            change = {"count": before.count + 1, "lastTimestamp": event["lastTimestamp"]}
            try:
                await self._client.patch(EVENTS, before.name, change, before.namespace)
            except ApiError as error:
                if not error.not_found:
                    raise
            else:
                before.count += 1
                self._sent.move_to_end(key)
                return
        made = await self._client.create(EVENTS, event)
        self._sent[key] = _Sent(made["metadata"]["namespace"], made["metadata"]["name"], 1)
        self._sent.move_to_end(key)
        while len(self._sent) > REMEMBERED:
            self._sent.popitem(last=False)

    def _allowed(self, source: str) -> bool:
        now = asyncio.get_running_loop().time()
        bucket = self._buckets.pop(source, None) or _Bucket(BURST, now)
        bucket.tokens = min(BURST, bucket.tokens + (now - bucket.at) / REFILL_SECONDS)
        bucket.at = now
        self._buckets[source] = bucket
        while len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True
