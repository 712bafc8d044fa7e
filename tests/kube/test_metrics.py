from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from polyvisor.api.resources import PODS, VMIS
from polyvisor.kube import ApiError, Connection, Controller, KubeClient, WorkQueue
from polyvisor.kube.backoff import Backoff
from polyvisor.kube.metrics import Families, count_request, resource_of
from polyvisor.kube.tasks import end_task
from tests.cluster import TOKEN, running


def value(figure: str, /, **labels: str) -> float:
    return REGISTRY.get_sample_value(figure, labels) or 0.0


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/api/v1/pods", "pods"),
        ("/api/v1/namespaces/default/pods/a/status", "pods/status"),
        ("/api/v1/namespaces/default", "namespaces"),
        ("/apis/kubevirt.io/v1/namespaces/default/virtualmachines/demo", "virtualmachines"),
        ("/apis/subresources.kubevirt.io/v1/namespaces/a/virtualmachines/b/start", "virtualmachines/start"),
        ("/version", ""),
    ],
)
def test_a_path_is_counted_by_its_kind_and_never_by_a_name(path: str, resource: str) -> None:
    assert resource_of(path) == resource


async def test_calls_are_counted_by_what_came_of_them(tmp_path: Path) -> None:
    async with running(tmp_path) as plain:
        connection = Connection(plain.connection.server, token=TOKEN)
        async with KubeClient(connection, observe=count_request) as client:
            before = value("kubevirt_rest_client_requests_total", verb="GET", resource="pods", code="404")
            with pytest.raises(ApiError):
                await client.get(PODS, "none", "default")
            assert value("kubevirt_rest_client_requests_total", verb="GET", resource="pods", code="404") == before + 1
            took = "kubevirt_rest_client_request_latency_seconds_count"
            assert value(took, verb="GET", resource="pods") >= 1
            kind = VMIS.plural
            before = value("kubevirt_rest_client_requests_total", verb="WATCH", resource=kind, code="200")
            watch = client.watch(VMIS, resource_version="0", timeout_seconds=1)
            async for _ in watch:
                pass
            assert value("kubevirt_rest_client_requests_total", verb="WATCH", resource=kind, code="200") == before + 1
            assert value(took, verb="WATCH", resource=kind) == 0
    connection = Connection("http://127.0.0.1:1")
    async with KubeClient(connection, observe=count_request) as client:
        before = value("kubevirt_rest_client_requests_total", verb="GET", resource="pods", code="<error>")
        with pytest.raises(ApiError):
            await client.get(PODS, "none", "default")
        assert value("kubevirt_rest_client_requests_total", verb="GET", resource="pods", code="<error>") == before + 1


async def test_a_queue_tells_what_waits_what_is_under_way_and_what_failed() -> None:
    queue: WorkQueue[str] = WorkQueue(Backoff(0.001, 0.001))
    held, entered, third = asyncio.Event(), asyncio.Event(), asyncio.Event()
    calls = 0

    async def reconcile(key: str) -> None:
        nonlocal calls
        calls += 1
        entered.set()
        await held.wait()
        if calls == 3:
            third.set()
        if calls == 1:
            raise ApiError(500, "InternalError", "not yet")

    controller = Controller("figures", queue, reconcile, workers=1)
    queue.add("a")
    queue.add("b")
    task = asyncio.create_task(controller.run())
    async with asyncio.timeout(20):
        await entered.wait()
        name = {"name": "figures"}
        assert value("kubevirt_workqueue_depth", **name) == 1
        assert value("kubevirt_workqueue_adds_total", **name) == 2
        longest = value("kubevirt_workqueue_longest_running_processor_seconds", **name)
        assert value("kubevirt_workqueue_unfinished_work_seconds", **name) >= longest > 0
        held.set()
        await third.wait()
        await queue.join()
    assert value("kubevirt_workqueue_retries_total", **name) == 1
    assert value("kubevirt_workqueue_depth", **name) == 0
    assert value("kubevirt_workqueue_unfinished_work_seconds", **name) == 0
    for histogram in ("queue", "work"):
        assert value(f"kubevirt_workqueue_{histogram}_duration_seconds_count", **name) == 3
    await end_task(task)


def test_a_sample_with_a_label_that_the_list_lacks_is_a_mistake() -> None:
    with pytest.raises(AssertionError, match="colour"):
        Families().add("kubevirt_vmi_number_of_outdated", 1, colour="red")
