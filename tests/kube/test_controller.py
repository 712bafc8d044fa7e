"""The loop of a controller: who is slow holds nobody else up."""

from __future__ import annotations

import asyncio

import pytest

from polyvisor.kube import Controller, WorkQueue
from polyvisor.kube.tasks import end_task

PATIENCE = 30.0
"""Seconds after which a test has failed, and not before."""


@pytest.mark.parametrize("workers", [1, 4])
async def test_objects_that_do_not_answer_leave_the_others_their_workers(workers: int) -> None:
    queue: WorkQueue[str] = WorkQueue()
    answers, seen = asyncio.Event(), asyncio.Event()

    async def reconcile(key: str) -> None:
        if key == "honest":
            seen.set()
        else:
            await answers.wait()

    running = asyncio.create_task(Controller("test-slow", queue, reconcile, workers, slow=0.01).run())
    try:
        for number in range(3 * workers):
            queue.add(f"silent-{number}")
        queue.add("honest")
        async with asyncio.timeout(PATIENCE):
            await seen.wait()
    finally:
        await end_task(running)


async def test_substitutes_do_not_pile_up() -> None:
    queue: WorkQueue[int] = WorkQueue()
    most = now = 0
    over = asyncio.Event()
    gates = [asyncio.Event() for _ in range(8)]

    async def reconcile(key: int) -> None:
        nonlocal most, now
        if key < len(gates):
            await gates[key].wait()
            return
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        if key == 99:
            over.set()

    running = asyncio.create_task(Controller("test-substitutes", queue, reconcile, 2, slow=0.01).run())
    try:
        for number in range(len(gates)):
            queue.add(number)
        while len(queue):  # noqa: ASYNC110 - each has found a worker, one after the other
            await asyncio.sleep(0.01)
        for gate in gates:
            gate.set()
        for number in range(20, 100):
            queue.add(number)
        async with asyncio.timeout(PATIENCE):
            await over.wait()
        assert most < len(gates)
    finally:
        await end_task(running)
