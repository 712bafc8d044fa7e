"""Lists and watches over HTTP: pages, versions, selectors, bookmarks, and history that is gone."""

from __future__ import annotations

import json

from .conftest import CONFIGMAPS, MERGE, PODS, Running, configmap, is_status, pod


async def test_pages_show_one_moment(server: Running) -> None:
    for number in range(5):
        await server.post(CONFIGMAPS, configmap(f"c{number}"))
    first = (await server.client.get(CONFIGMAPS, params={"limit": 2})).json()
    assert first["metadata"]["remainingItemCount"] == 3
    await server.client.delete(f"{CONFIGMAPS}/c3")
    await server.post(CONFIGMAPS, configmap("c9"))
    token = first["metadata"]["continue"]
    rest = (await server.client.get(CONFIGMAPS, params={"limit": 10, "continue": token})).json()
    assert [one["metadata"]["name"] for one in rest["items"]] == ["c2", "c3", "c4"]
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert "continue" not in rest["metadata"]
    server.store.compact(keep=0, seconds=0)
    late = await server.client.get(CONFIGMAPS, params={"limit": 10, "continue": token})
    is_status(late, 410, "Expired")
    is_status(await server.client.get(CONFIGMAPS, params={"continue": "nonsense"}), 400, "BadRequest")


async def test_lists_at_a_version(server: Running) -> None:
    made = await server.post(CONFIGMAPS, configmap("a"))
    rv = made["metadata"]["resourceVersion"]
    await server.post(CONFIGMAPS, configmap("b"))

    async def names(**query: str) -> list[str]:
        answer = await server.client.get(CONFIGMAPS, params=query)
        return [one["metadata"]["name"] for one in answer.json()["items"]]

    assert await names(resourceVersion=rv, resourceVersionMatch="Exact") == ["a"]
    assert await names(resourceVersion=rv, resourceVersionMatch="NotOlderThan") == ["a", "b"]
    assert await names(resourceVersion="0") == ["a", "b"]
    future = await server.client.get(CONFIGMAPS, params={"resourceVersion": "999999"})
    is_status(future, 504, "Timeout")
    is_status(await server.client.get(CONFIGMAPS, params={"resourceVersion": "x"}), 400, "BadRequest")
    is_status(await server.client.get(CONFIGMAPS, params={"labelSelector": "a=b=c"}), 400, "BadRequest")
    is_status(await server.client.get(CONFIGMAPS, params={"limit": "-1"}), 400, "BadRequest")


async def test_watch_from_a_version(server: Running) -> None:
    made = await server.post(CONFIGMAPS, configmap("a"))
    await server.post(CONFIGMAPS, configmap("b"))
    async with server.watch(f"{CONFIGMAPS}?watch=1&resourceVersion={made['metadata']['resourceVersion']}") as read:
        event = await read()
        assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "b")
        await server.client.delete(f"{CONFIGMAPS}/b")
        event = await read()
        assert event["type"] == "DELETED"
        assert int(event["object"]["metadata"]["resourceVersion"]) == server.store.rv


async def test_watch_sees_through_its_selector(server: Running) -> None:
    await server.post(CONFIGMAPS, configmap("a"))

    async def label(value: str | None) -> None:
        await server.client.patch(f"{CONFIGMAPS}/a", json={"metadata": {"labels": {"on": value}}}, headers=MERGE)

    async with server.watch(f"{CONFIGMAPS}?watch=1&labelSelector=on=yes") as read:
        await label("yes")
        await label("no")
        await label("yes")
        await server.client.patch(f"{CONFIGMAPS}/a", json={"data": {"k": "v"}}, headers=MERGE)
        assert [(await read())["type"] for _ in range(4)] == ["ADDED", "DELETED", "ADDED", "MODIFIED"]


async def test_watch_list_begins_with_all_and_says_when_it_has(server: Running) -> None:
    await server.post(CONFIGMAPS, configmap("a"))
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    async with server.watch(f"{CONFIGMAPS}?{query}") as read:
        assert (await read())["type"] == "ADDED"
        mark = await read()
        assert mark["type"] == "BOOKMARK"
        assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert mark["object"]["kind"] == "ConfigMap"
    refused = await server.client.get(f"{CONFIGMAPS}?watch=1&sendInitialEvents=true")
    is_status(refused, 400, "BadRequest")


async def test_watch_ends_in_time_with_a_bookmark(server: Running) -> None:
    rv = server.store.rv
    await server.post(PODS, pod("p"))
    answer = await server.client.get(
        f"{CONFIGMAPS}?watch=1&resourceVersion={rv}&timeoutSeconds=1&allowWatchBookmarks=true"
    )
    events = [json.loads(line) for line in answer.text.splitlines()]
    assert [event["type"] for event in events] == ["BOOKMARK"]
    assert int(events[0]["object"]["metadata"]["resourceVersion"]) == server.store.rv > rv


async def test_watch_of_forgotten_history_is_gone(server: Running) -> None:
    for name in "ab":
        await server.post(CONFIGMAPS, configmap(name))
    server.store.compact(keep=0, seconds=0)
    answer = await server.client.get(f"{CONFIGMAPS}?watch=1&resourceVersion=2")
    event = json.loads(answer.text)
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
