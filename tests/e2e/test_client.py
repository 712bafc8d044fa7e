"""Our client against a real API server: pages, patches, preconditions, versions that are too old, and refusals."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
import pytest_asyncio

from polyvisor.api import Obj
from polyvisor.api.resources import CONFIGMAPS, EVENTS, NAMESPACES, NODES, PODS, VMIS, Resource
from polyvisor.kube import ApiError, EventRecorder, Informer, KubeClient, WatchEvent
from polyvisor.kube.tasks import end_task
from tests.e2e.cluster import Cluster, cluster
from tests.e2e.goprograms import NoGo
from tests.needs import unmet

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
SECONDS = 20
SPACE = "default"


@pytest.fixture(scope="module")
def one() -> Any:
    try:
        with cluster() as started:
            yield started
    except NoGo as missing:
        unmet(str(missing))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(one: Cluster) -> AsyncIterator[KubeClient]:
    async with KubeClient.from_kubeconfig(one.kubeconfig) as made:
        yield made


def words(name: str, **data: str) -> Obj:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": SPACE}, "data": data}


def refused(code: int, reason: str) -> Any:
    return pytest.raises(ApiError, check=lambda error: (error.code, error.reason) == (code, reason))


async def test_a_long_list_comes_in_pages_and_whole(client: KubeClient) -> None:
    for number in range(7):
        await client.create(CONFIGMAPS, words(f"page-{number}") | {"immutable": True})
    items, version = await client.list_with_version(CONFIGMAPS, SPACE, page_size=2)
    assert [i["metadata"]["name"] for i in items if i["metadata"]["name"].startswith("page-")] == [
        f"page-{number}" for number in range(7)
    ]
    assert version.isdigit()
    assert {i["kind"] for i in items} == {"ConfigMap"}


async def test_a_page_that_the_server_forgot_starts_the_list_again(
    client: KubeClient, one: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    real = client.request

    async def request(method: str, path: str, **options: Any) -> Any:
        if method == "GET":
            asked.append(options["query"]["continue"])
        answer = await real(method, path, **options)
        if method == "GET" and len(asked) == 1:
            await client.create(CONFIGMAPS, words("page-new"))
            await asyncio.to_thread(forget, one, int(answer["metadata"]["resourceVersion"]) + 1)
            await asyncio.to_thread(one.stop, "kube-apiserver")
            await asyncio.to_thread(one.start, "kube-apiserver")
        return answer

    monkeypatch.setattr(client, "request", request)
    items, _ = await client.list_with_version(CONFIGMAPS, SPACE, page_size=2)
    monkeypatch.undo()
    assert [bool(token) for token in asked] == [False, True, False]
    names = [i["metadata"]["name"] for i in items]
    assert len(names) == len(set(names))
    assert {f"page-{number}" for number in range(7)} <= set(names)


def forget(one: Cluster, revision: int) -> None:
    """Let etcd forget everything before a revision; the API server, whose cache remembers more, is begun anew then."""
    body = json.dumps({"revision": str(revision), "physical": True}).encode()
    with urllib.request.urlopen(f"{one.etcd_url}/v3/kv/compaction", body, timeout=10) as answer:
        assert answer.status == 200


class Counted(KubeClient):
    """Tells when a watch begins."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.began: asyncio.Queue[str | None] = asyncio.Queue()

    def watch(
        self, resource: Resource, namespace: str | None = None, **options: Any
    ) -> AsyncGenerator[WatchEvent, None]:
        self.began.put_nowait(options["resource_version"])
        return super().watch(resource, namespace, **options)


async def test_a_watch_ends_in_order_and_goes_on_without_a_new_list(one: Cluster) -> None:
    async with (
        asyncio.timeout(SECONDS),
        Counted.from_kubeconfig(one.kubeconfig) as counted,
        Informer(counted, CONFIGMAPS, SPACE, watch_seconds=1) as informer,
    ):
        for number in range(3):
            await counted.began.get()
            await counted.create(CONFIGMAPS, words(f"ordered-{number}"))
            await informer.wait_until(lambda seen, n=number: seen.get(SPACE, f"ordered-{n}"), SECONDS)  # type: ignore[misc]
        assert informer.relists == 1


async def test_selectors_narrow_a_list_and_a_watch(client: KubeClient) -> None:
    marked = words("marked")
    marked["metadata"]["labels"] = {"mark": "yes"}
    async with Informer(client, CONFIGMAPS, SPACE, label_selector="mark=yes") as informer:
        await client.create(CONFIGMAPS, words("unmarked"))
        await client.create(CONFIGMAPS, marked)
        await informer.wait_until(lambda seen: seen.get(SPACE, "marked"), SECONDS)
        assert informer.get(SPACE, "unmarked") is None
        await client.patch(CONFIGMAPS, "marked", {"metadata": {"labels": {"mark": "no"}}}, SPACE)
        await informer.wait_until(lambda seen: seen.get(SPACE, "marked") is None, SECONDS)
    (found,) = await client.list(CONFIGMAPS, SPACE, field_selector="metadata.name=marked")
    assert found["metadata"]["labels"] == {"mark": "no"}


async def test_a_write_from_an_old_copy_is_a_conflict(client: KubeClient) -> None:
    made = await client.create(CONFIGMAPS, words("twice", a="1"))
    await client.update(CONFIGMAPS, made | {"data": {"a": "2"}})
    with refused(409, "Conflict") as caught:
        await client.update(CONFIGMAPS, made | {"data": {"a": "3"}})
    assert caught.value.conflict
    assert not caught.value.already_exists
    with refused(409, "AlreadyExists") as caught:
        await client.create(CONFIGMAPS, words("twice"))
    assert caught.value.already_exists


async def test_each_kind_of_patch(client: KubeClient) -> None:
    await client.create(CONFIGMAPS, words("patched", a="1", b="2"))
    merged = await client.patch(CONFIGMAPS, "patched", {"data": {"a": None, "c": "3"}}, SPACE)
    assert merged["data"] == {"b": "2", "c": "3"}
    steps = [{"op": "test", "path": "/data/b", "value": "2"}, {"op": "remove", "path": "/data/b"}]
    patched = await client.patch(CONFIGMAPS, "patched", steps, SPACE, patch_type="json")
    assert patched["data"] == {"c": "3"}
    with refused(422, "Invalid"):
        await client.patch(CONFIGMAPS, "patched", steps, SPACE, patch_type="json")
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}
    await client.create(NODES, node)
    for kind in ("A", "B"):
        change = {"status": {"conditions": [{"type": kind, "status": "True"}]}}
        done = await client.patch(NODES, "n", change, patch_type="strategic", subresource="status")
    assert [c["type"] for c in done["status"]["conditions"]] in (["A", "B"], ["B", "A"])
    await client.delete(NODES, "n")


async def test_apply_owns_fields_and_force_takes_them(client: KubeClient) -> None:
    await client.apply(CONFIGMAPS, words("applied", a="1"), field_manager="one")
    with refused(409, "Conflict") as caught:
        await client.apply(CONFIGMAPS, words("applied", a="2"), field_manager="two")
    assert caught.value.causes[0]["field"] == ".data.a"
    taken = await client.apply(CONFIGMAPS, words("applied", a="2"), field_manager="two", force=True)
    assert taken["data"] == {"a": "2"}


async def test_a_dry_run_changes_nothing(client: KubeClient) -> None:
    made = await client.create(CONFIGMAPS, words("dry"), dry_run=True)
    assert made["metadata"]["uid"]
    with refused(404, "NotFound"):
        await client.get(CONFIGMAPS, "dry", SPACE)


async def test_only_the_object_that_was_meant_is_deleted(client: KubeClient) -> None:
    made = await client.create(CONFIGMAPS, words("meant"))
    with refused(409, "Conflict"):
        await client.delete(CONFIGMAPS, "meant", SPACE, uid="00000000-0000-0000-0000-000000000000")
    await client.delete(CONFIGMAPS, "meant", SPACE, uid=made["metadata"]["uid"])
    with refused(404, "NotFound") as caught:
        await client.delete(CONFIGMAPS, "meant", SPACE)
    assert caught.value.not_found


async def test_refusals_carry_their_causes(client: KubeClient, one: Cluster) -> None:
    with refused(422, "Invalid") as caught:
        await client.create(CONFIGMAPS, words("Not a name"))
    assert caught.value.causes[0]["field"] == "metadata.name"
    with pytest.raises(ApiError) as missing:
        await client.list(VMIS)
    assert missing.value.not_found, "the cluster does not know the kind"
    stranger = one.folder / "stranger"
    stranger.write_text(one.kubeconfig_for("not-a-token"))
    async with KubeClient.from_kubeconfig(stranger) as unknown:
        with refused(401, "Unauthorized"):
            await unknown.list(PODS)


async def test_an_event_that_repeats_is_counted(client: KubeClient) -> None:
    recorder = EventRecorder(client, "tests")
    task = asyncio.create_task(recorder.run())
    space = await client.get(NAMESPACES, "default")
    subject = await client.create(CONFIGMAPS, words("told"))
    assert space["kind"] == "Namespace"
    async with Informer(client, EVENTS, SPACE) as events:
        for _ in range(3):
            recorder.event(subject, "Normal", "Told", "the same again")
        found = await events.wait_until(
            lambda seen: next((e for e in seen.items() if e["reason"] == "Told" and e.get("count") == 3), None), SECONDS
        )
        assert found is not None
        assert found["involvedObject"]["uid"] == subject["metadata"]["uid"]
    await end_task(task)


async def test_watches_outlive_the_api_server(client: KubeClient, one: Cluster) -> None:
    async with Informer(client, CONFIGMAPS, SPACE) as informer:
        await asyncio.to_thread(one.stop, "kube-apiserver", kill=True)
        with pytest.raises(ApiError) as caught:
            await client.get(CONFIGMAPS, "applied", SPACE)
        assert caught.value.unreachable
        await asyncio.to_thread(one.start, "kube-apiserver")
        await client.delete(CONFIGMAPS, "applied", SPACE)
        await client.create(CONFIGMAPS, words("reborn"))
        await informer.wait_until(lambda seen: seen.get(SPACE, "reborn"), 60)
        await informer.wait_until(lambda seen: seen.get(SPACE, "applied") is None, SECONDS)
        assert informer.relists > 1


async def test_a_watch_from_a_version_that_is_too_old_says_so(client: KubeClient) -> None:
    # the restarted API server remembers nothing from before its first list
    with refused(410, "Expired") as caught:
        async with asyncio.timeout(SECONDS), aclosing(client.watch(CONFIGMAPS, SPACE, resource_version="1")) as events:
            async for _ in events:
                pass
    assert caught.value.expired


class Late(KubeClient):
    """Its first watch begins at a version that the server has forgotten."""

    watches = 0

    def watch(
        self, resource: Resource, namespace: str | None = None, **options: Any
    ) -> AsyncGenerator[WatchEvent, None]:
        self.watches += 1
        if self.watches == 1:
            options["resource_version"] = "1"
        return super().watch(resource, namespace, **options)


async def test_an_informer_lists_again_when_its_version_is_too_old(one: Cluster, client: KubeClient) -> None:
    async with Late.from_kubeconfig(one.kubeconfig) as late, Informer(late, CONFIGMAPS, SPACE) as informer:
        await client.create(CONFIGMAPS, words("after-410"))
        await informer.wait_until(lambda seen: seen.get(SPACE, "after-410"), SECONDS)
        await informer.wait_until(lambda seen: seen.relists == 2, SECONDS)
