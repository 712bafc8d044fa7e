"""Events: counted when they repeat, new when they differ, and never a flood."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from polyvisor.api.names import EventType
from polyvisor.api.resources import EVENTS
from polyvisor.kube import EventRecorder, KubeClient
from polyvisor.kube.events import BURST, MESSAGE_LIMIT
from polyvisor.kube.tasks import end_task
from tests.cluster import running

Obj = dict[str, Any]


def machine(name: str = "m", uid: str = "u1") -> Obj:
    metadata = {"name": name, "namespace": "default", "uid": uid, "resourceVersion": "7"}
    return {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": metadata}


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[KubeClient]:
    async with running(tmp_path) as client:
        yield client


@pytest.fixture
async def recorder(client: KubeClient) -> AsyncIterator[EventRecorder]:
    recorder = EventRecorder(client, "tester")
    task = asyncio.create_task(recorder.run())
    yield recorder
    await end_task(task)


async def listed(client: KubeClient, recorder: EventRecorder) -> list[Obj]:
    async with asyncio.timeout(10):
        await recorder.flush()
    return await client.list(EVENTS)


async def test_the_same_event_again_is_counted(client: KubeClient, recorder: EventRecorder) -> None:
    for _ in range(3):
        recorder.event(machine(), EventType.WARNING, "Failed", "it failed")
    (event,) = await listed(client, recorder)
    assert event["count"] == 3
    assert (event["type"], event["reason"], event["message"]) == ("Warning", "Failed", "it failed")
    assert event["source"] == {"component": "tester"}
    assert event["involvedObject"]["uid"] == "u1"
    assert event["firstTimestamp"] <= event["lastTimestamp"]


async def test_what_differs_is_another_event(client: KubeClient, recorder: EventRecorder) -> None:
    recorder.event(machine(), EventType.WARNING, "Failed", "it failed")
    recorder.event(machine(), EventType.WARNING, "Failed", "otherwise")
    recorder.event(machine(), EventType.NORMAL, "Failed", "it failed")
    recorder.event(machine(uid="u2"), EventType.WARNING, "Failed", "it failed")
    recorder.event(machine("n"), EventType.WARNING, "Failed", "it failed")
    assert [event["count"] for event in await listed(client, recorder)] == [1] * 5


async def test_an_event_that_was_removed_is_made_anew(client: KubeClient, recorder: EventRecorder) -> None:
    recorder.event(machine(), EventType.NORMAL, "Done", "well")
    (event,) = await listed(client, recorder)
    await client.delete(EVENTS, event["metadata"]["name"], "default")
    recorder.event(machine(), EventType.NORMAL, "Done", "well")
    (again,) = await listed(client, recorder)
    assert again["metadata"]["uid"] != event["metadata"]["uid"]
    assert again["count"] == 1


async def test_one_object_cannot_flood_and_keeps_no_other_from_speaking(
    client: KubeClient, recorder: EventRecorder
) -> None:
    for number in range(BURST * 2):
        recorder.event(machine(), EventType.WARNING, "Failed", f"try {number}")
    recorder.event(machine("quiet", "u2"), EventType.NORMAL, "Done", "well")
    events = await listed(client, recorder)
    assert len([e for e in events if e["involvedObject"]["name"] == "m"]) == BURST
    assert len([e for e in events if e["involvedObject"]["name"] == "quiet"]) == 1


async def test_long_messages_are_cut_and_refused_events_hold_nothing_up(
    client: KubeClient, recorder: EventRecorder
) -> None:
    nowhere = machine("gone")
    nowhere["metadata"]["namespace"] = "nowhere"
    recorder.event(nowhere, EventType.NORMAL, "Done", "in no namespace")
    recorder.event(machine(), EventType.NORMAL, "Done", "x" * 5000)
    (event,) = await listed(client, recorder)
    assert len(event["message"]) == MESSAGE_LIMIT
