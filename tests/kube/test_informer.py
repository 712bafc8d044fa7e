"""The informer against a scripted server, which can do on demand what a real one does once a week."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from polyvisor.api.resources import CONFIGMAPS, PODS
from polyvisor.kube import Backoff, Connection, Informer, KubeClient

Obj = dict[str, Any]
QUICK = Backoff(0.001, 0.002)


def thing(name: str, version: int, uid: str = "", **labels: str) -> Obj:
    metadata = {"name": name, "namespace": "n", "resourceVersion": str(version), "uid": uid or name, "labels": labels}
    return {"metadata": metadata}


class Stream(httpx.AsyncByteStream):
    """One watch: hands out what is put in; an exception ends it, None closes it."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (item := await self.lines.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item

    def send(self, type: str, obj: Obj) -> None:
        line = json.dumps({"type": type, "object": obj}).encode() + b"\n"
        self.lines.put_nowait(line[:7])
        self.lines.put_nowait(line[7:])


class Server:
    """Answers lists from ``pages`` and hands each watch to the test."""

    def __init__(self) -> None:
        self.lists: list[httpx.Request] = []
        self.watches: asyncio.Queue[tuple[httpx.Request, Stream]] = asyncio.Queue()
        self.objects: list[Obj] = []
        self.version = 10
        self.failures: list[httpx.Response | Exception] = []

    async def answer(self, request: httpx.Request) -> httpx.Response:
        if "watch" in request.url.params:
            stream = Stream()
            self.watches.put_nowait((request, stream))
            return httpx.Response(200, stream=stream)
        self.lists.append(request)
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Exception):
                raise failure
            return failure
        start = int(request.url.params.get("continue", "0"))
        limit = int(request.url.params.get("limit", "0")) or len(self.objects)
        metadata: Obj = {"resourceVersion": str(self.version)}
        if start + limit < len(self.objects):
            metadata["continue"] = str(start + limit)
        return httpx.Response(200, json={"items": self.objects[start : start + limit], "metadata": metadata})


class Trial:
    def __init__(self, **options: Any) -> None:
        self.server = Server()
        transport = httpx.MockTransport(self.server.answer)
        self.client = KubeClient(Connection("http://test"), transport=transport)
        self.informer = Informer(self.client, CONFIGMAPS, backoff=QUICK, **options)
        self.seen: list[tuple[str, str]] = []
        self.informer.on_change(self.note)

    def note(self, old: Obj | None, new: Obj | None) -> None:
        kind = "add" if old is None else "delete" if new is None else "change"
        self.seen.append((kind, (new or old or {})["metadata"]["name"]))

    async def watch(self) -> tuple[httpx.Request, Stream]:
        return await asyncio.wait_for(self.server.watches.get(), 5)

    async def until(self, *seen: tuple[str, str]) -> None:
        await self.informer.wait_until(lambda _: self.seen == list(seen), 5)


@pytest.fixture
async def trial() -> AsyncIterator[Trial]:
    made = Trial(page_size=2)
    yield made
    await made.informer.stop()
    await made.client.aclose()


async def test_it_lists_in_pages_then_watches_from_there(trial: Trial) -> None:
    trial.server.objects = [thing("a", 1), thing("b", 2), thing("c", 3)]
    await trial.informer.start()
    await trial.informer.synced()
    assert [r.url.params.get("continue") for r in trial.server.lists] == [None, "2"]
    request, stream = await trial.watch()
    assert request.url.params["resourceVersion"] == "10"
    assert request.url.params["allowWatchBookmarks"] == "true"
    assert int(request.url.params["timeoutSeconds"]) > 0
    stream.send("ADDED", thing("d", 11))
    stream.send("MODIFIED", thing("a", 12))
    stream.send("DELETED", thing("b", 13))
    await trial.until(("add", "a"), ("add", "b"), ("add", "c"), ("add", "d"), ("change", "a"), ("delete", "b"))
    found = trial.informer.get("n", "a")
    assert found is not None
    assert (found["kind"], found["apiVersion"]) == ("ConfigMap", "v1")


async def test_who_owns_which_field_is_not_kept(trial: Trial) -> None:
    trial.server.objects = [thing("a", 1)]
    trial.server.objects[0]["metadata"]["managedFields"] = [{"manager": "x"}]
    await trial.informer.start()
    _, stream = await trial.watch()
    changed = thing("b", 11)
    changed["metadata"]["managedFields"] = [{"manager": "x"}]
    stream.send("ADDED", changed)
    await trial.until(("add", "a"), ("add", "b"))
    assert all("managedFields" not in one["metadata"] for one in trial.informer.items())


async def test_a_watch_that_ends_in_order_goes_on_from_the_last_bookmark(trial: Trial) -> None:
    await trial.informer.start()
    _, stream = await trial.watch()
    stream.send("BOOKMARK", {"metadata": {"resourceVersion": "42"}})
    stream.lines.put_nowait(None)
    request, _ = await trial.watch()
    assert request.url.params["resourceVersion"] == "42"
    assert len(trial.server.lists) == 1
    assert trial.seen == []


async def test_gone_lists_again_and_sees_what_was_deleted_meanwhile(trial: Trial) -> None:
    trial.server.objects = [thing("a", 1), thing("b", 2)]
    await trial.informer.start()
    _, stream = await trial.watch()
    trial.server.objects, trial.server.version = [thing("b", 20), thing("c", 21)], 30
    stream.send("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})
    request, _ = await trial.watch()
    assert request.url.params["resourceVersion"] == "30"
    assert trial.seen == [("add", "a"), ("add", "b"), ("delete", "a"), ("change", "b"), ("add", "c")]


async def test_a_broken_stream_lists_again(trial: Trial) -> None:
    trial.server.objects = [thing("a", 1)]
    await trial.informer.start()
    _, stream = await trial.watch()
    stream.lines.put_nowait(b'{"type": "ADD')
    stream.lines.put_nowait(httpx.ReadError("reset"))
    trial.server.objects = []
    await trial.watch()
    assert trial.seen == [("add", "a"), ("delete", "a")]


async def test_an_event_cut_off_by_the_end_of_the_stream_is_not_lost(trial: Trial) -> None:
    await trial.informer.start()
    _, stream = await trial.watch()
    stream.lines.put_nowait(b'{"type": "ADDED", "obj')
    stream.lines.put_nowait(None)
    trial.server.objects = [thing("a", 11)]
    await trial.watch()
    assert trial.seen == [("add", "a")]


async def test_a_server_that_is_down_or_busy_is_asked_again(trial: Trial) -> None:
    trial.server.failures = [
        httpx.ConnectError("refused"),
        httpx.Response(503, text="starting"),
        httpx.Response(403, json={"kind": "Status", "code": 403, "reason": "Forbidden", "message": "no"}),
    ]
    await trial.informer.start()
    async with asyncio.timeout(5):
        await trial.informer.synced()
    assert len(trial.server.lists) == 4


async def test_the_same_name_with_another_uid_is_a_deletion_and_an_addition(trial: Trial) -> None:
    trial.server.objects = [thing("a", 1, "u1")]
    await trial.informer.start()
    _, stream = await trial.watch()
    stream.send("MODIFIED", thing("a", 11, "u2"))
    await trial.until(("add", "a"), ("delete", "a"), ("add", "a"))


async def test_a_repeated_event_is_told_once(trial: Trial) -> None:
    await trial.informer.start()
    _, stream = await trial.watch()
    for _ in range(3):
        stream.send("ADDED", thing("a", 11))
    stream.send("ADDED", thing("b", 12))
    await trial.until(("add", "a"), ("add", "b"))


async def test_a_failing_handler_does_not_silence_the_others(trial: Trial) -> None:
    late: list[str] = []

    def bad(old: Obj | None, new: Obj | None) -> None:
        raise RuntimeError("oops")

    trial.informer.on_change(bad)
    trial.informer.on_change(lambda old, new: late.append((new or old or {})["metadata"]["name"]))
    trial.server.objects = [thing("a", 1)]
    await trial.informer.start()
    await trial.informer.synced()
    assert (trial.seen, late) == ([("add", "a")], ["a"])
    after: list[str] = []
    trial.informer.on_change(lambda old, new: after.append((new or {})["metadata"]["name"]))
    assert after == ["a"], "a late handler hears of what is there"


async def test_indexes_follow_the_objects(trial: Trial) -> None:
    trial.informer.add_index("app", lambda obj: [obj["metadata"]["labels"].get("app", "")])
    trial.server.objects = [thing("a", 1, app="x"), thing("b", 2, app="y")]
    await trial.informer.start()
    _, stream = await trial.watch()
    stream.send("MODIFIED", thing("b", 11, app="x"))
    stream.send("DELETED", thing("a", 12, app="x"))
    await trial.informer.wait_until(lambda i: i.get("n", "a") is None, 5)
    assert [o["metadata"]["name"] for o in trial.informer.by_index("app", "x")] == ["b"]
    assert trial.informer.by_index("app", "y") == []


async def test_resync_tells_of_every_object_again() -> None:
    trial = Trial(resync_seconds=0.01)
    trial.server.objects = [thing("a", 1)]
    again = asyncio.Event()
    trial.informer.on_change(lambda old, new: again.set() if old is not None and old is new else None)
    await trial.informer.start()
    async with asyncio.timeout(5):
        await again.wait()
    await trial.informer.stop()
    await trial.client.aclose()


async def test_selectors_reach_the_server() -> None:
    server = Server()
    client = KubeClient(Connection("http://test"), transport=httpx.MockTransport(server.answer))
    informer = Informer(client, PODS, "n", "a=b", "spec.nodeName=x", backoff=QUICK)
    await informer.start()
    request, _ = await asyncio.wait_for(server.watches.get(), 5)
    for each in (server.lists[0], request):
        assert each.url.path == "/api/v1/namespaces/n/pods"
        assert each.url.params["labelSelector"] == "a=b"
        assert each.url.params["fieldSelector"] == "spec.nodeName=x"
    await informer.stop()
    await client.aclose()


async def test_what_a_write_was_answered_is_known_before_the_watch_tells(trial: Trial) -> None:
    trial.server.objects = [thing("a", 5)]
    await trial.informer.start()
    _, stream = await trial.watch()
    seen: list[tuple[str, ...]] = []

    def note(old: Obj | None, new: Obj | None) -> None:
        seen.append(tuple(one["metadata"]["resourceVersion"] if one else "" for one in (old, new)))

    trial.informer.on_change(note)
    trial.informer.learn(thing("a", 20))
    trial.informer.learn(thing("a", 15))
    trial.informer.learn(thing("a", 30, uid="another"))
    trial.informer.learn(thing("gone", 20))
    for version in (11, 20):  # what was there before the write, and the write
        stream.send("MODIFIED", thing("a", version))
    stream.send("MODIFIED", thing("a", 21))
    stream.send("DELETED", thing("a", 22))
    await trial.informer.wait_until(lambda i: not i.items(), 5)
    assert seen == [("", "5"), ("5", "20"), ("20", "21"), ("22", "")]
