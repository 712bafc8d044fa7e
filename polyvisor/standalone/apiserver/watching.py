"""The watch stream of a list: one JSON object a line, filtered, in the form that the client asked for.

A change is seen through the client's selectors: an object that begins to match is ADDED, one that ceases to match is
DELETED, whatever happened in the store.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass

from polyvisor.api.resources import Resource

from . import protobuf
from .errors import Obj, StatusError, bad_request
from .listing import number, too_large
from .negotiation import Wanted
from .registry import kind_of
from .requests import flag
from .selectors import Predicate
from .store import Change, Store
from .table import partial, table
from .versions import api_version, outward

BOOKMARK_SECONDS = 30.0
_DEFAULT_TIMEOUT = 1800.0
_INITIAL_END = "k8s.io/initial-events-end"


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """What a client asked to watch."""

    resource: Resource
    version: str
    namespace: str | None
    wanted: Predicate
    how: Wanted
    include: str
    since: int | None
    initial: bool
    initial_end: bool
    bookmarks: bool
    timeout: float


def parse_watch(
    store: Store,
    resource: Resource,
    served: str,
    namespace: str | None,
    wanted: Predicate,
    how: Wanted,
    query: dict[str, str],
) -> WatchRequest:
    """Read a watch request; complain before the stream begins."""
    version, match = query.get("resourceVersion", ""), query.get("resourceVersionMatch", "")
    bookmarks = flag(query, "allowWatchBookmarks")
    send_initial = query.get("sendInitialEvents")
    rv = number(version, "resourceVersion") if version else 0
    if rv > store.rv:
        raise too_large(store, rv)
    if send_initial is None:
        if match:
            raise bad_request("resourceVersionMatch: Forbidden: for watch it needs sendInitialEvents")
        initial = rv == 0
    else:
        if match != "NotOlderThan":
            raise bad_request("resourceVersionMatch: sendInitialEvents needs resourceVersionMatch=NotOlderThan")
        initial = flag(query, "sendInitialEvents")
    timeout = number(query["timeoutSeconds"], "timeoutSeconds") if query.get("timeoutSeconds") else 0
    return WatchRequest(
        resource,
        served,
        namespace,
        wanted,
        how,
        query.get("includeObject", "Metadata"),
        None if initial or rv == 0 else rv,
        initial,
        send_initial is not None and initial and bookmarks,
        bookmarks,
        float(timeout) or _DEFAULT_TIMEOUT * random.uniform(1, 2),
    )


async def stream(store: Store, asked: WatchRequest) -> AsyncIterator[bytes]:
    """Yield the events, until the time is up, the client goes or the store closes."""
    loop = asyncio.get_running_loop()
    end = loop.time() + asked.timeout
    kind = kind_of(asked.resource)
    since = store.rv if asked.since is None else asked.since
    try:
        with store.watch(kind, asked.namespace, since) as watch:
            if asked.initial:
                found = [obj for obj in store.select(kind, asked.namespace) if asked.wanted(obj)]
                for obj in found:
                    yield _event("ADDED", obj, asked)
                if asked.initial_end:
                    yield _bookmark(since, asked, {_INITIAL_END: "true"})
            quiet = 0
            while not watch.closed or watch.pending:
                left = end - loop.time()
                if left <= 0:
                    break
                changes = await watch.next(min(left, BOOKMARK_SECONDS))
                lines = [line for change in changes if (line := _seen(change, asked)) is not None]
                if lines:
                    yield b"".join(lines)
                if changes:
                    since = changes[-1].rv
                    quiet = 0 if lines else quiet + len(changes)
                elif not watch.closed:
                    since = store.rv
                if asked.bookmarks and not watch.closed and (not changes or quiet >= 100):
                    quiet = 0
                    yield _bookmark(since, asked)
    except StatusError as error:
        yield _line("ERROR", error.to_obj(), asked)


def _seen(change: Change, asked: WatchRequest) -> bytes | None:
    before = change.previous is not None and asked.wanted(change.previous)
    after = change.type != "DELETED" and asked.wanted(change.obj)
    if not before and not after:
        return None
    kind = "DELETED" if not after else "MODIFIED" if before else "ADDED"
    obj = change.obj
    if kind == "DELETED" and change.type != "DELETED" and change.previous is not None:
        metadata = {**change.previous["metadata"], "resourceVersion": str(change.rv)}
        obj = {**change.previous, "metadata": metadata}
    return _event(kind, obj, asked)


def _event(kind: str, obj: Obj, asked: WatchRequest) -> bytes:
    if asked.how.form == "Table":
        rv = obj["metadata"]["resourceVersion"]
        return _line(kind, table(asked.resource, [obj], {"resourceVersion": rv}, asked.include), asked)
    answer = partial(obj) if asked.how.form == "Partial" else outward(asked.resource, asked.version, obj)
    return _line(kind, answer, asked)


def _bookmark(rv: int, asked: WatchRequest, annotations: Obj | None = None) -> bytes:
    metadata: Obj = {"resourceVersion": str(rv), "creationTimestamp": None}
    if annotations:
        metadata["annotations"] = annotations
    if asked.how.form == "Table":
        row = {"cells": [], "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}}
        row["object"]["metadata"] = metadata  # type: ignore[index]
        answer = table(asked.resource, [], {"resourceVersion": str(rv)})
        return _line("BOOKMARK", {**answer, "rows": [row]}, asked)
    said = api_version(asked.resource, asked.version)
    return _line("BOOKMARK", {"kind": asked.resource.kind, "apiVersion": said, "metadata": metadata}, asked)


def _line(kind: str, obj: Obj, asked: WatchRequest) -> bytes:
    event = {"type": kind, "object": obj}
    if asked.how.media == "protobuf":
        return protobuf.watch_frame(event)
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
