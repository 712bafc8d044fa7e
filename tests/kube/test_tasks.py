"""Ending tasks, while the one who ends them is ended too."""

from __future__ import annotations

import asyncio

import pytest

from polyvisor.kube.tasks import end_task


async def test_returns_nothing_for_a_task_that_was_cancelled() -> None:
    task = asyncio.create_task(asyncio.Event().wait())
    assert await end_task(task) is None
    assert task.cancelled()


async def test_returns_what_a_task_failed_with() -> None:
    started = asyncio.Event()

    async def work() -> None:
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            raise ValueError("while ending")

    task = asyncio.create_task(work())
    await started.wait()
    assert repr(await end_task(task)) == "ValueError('while ending')"


async def test_whoever_ends_a_task_can_be_cancelled_at_that_moment() -> None:
    """A cancellation that is swallowed here leaves a worker running for ever, and with it whoever waits for it."""
    ending, release = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await release.wait()

    async def end(task: asyncio.Task[None]) -> None:
        await end_task(task)
        await asyncio.Event().wait()

    worker = asyncio.create_task(work())
    await asyncio.sleep(0)
    waiting = asyncio.create_task(end(worker))
    await ending.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(5):
            await waiting
    release.set()
    await asyncio.wait([worker])
