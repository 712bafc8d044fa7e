"""How a controller's loop takes errors: each key is tried again, and only a defect leaves a traceback."""

from __future__ import annotations

import asyncio
import logging

import pytest

from polyvisor.agent.link.connection import LauncherError, LauncherGone
from polyvisor.agent.platform.base import controller
from polyvisor.kube import Controller, WorkQueue
from polyvisor.kube.tasks import end_task


async def tried_twice(one: Controller[str], done: asyncio.Event) -> None:
    running = asyncio.create_task(one.run())
    async with asyncio.timeout(30):
        await done.wait()
    await end_task(running)


@pytest.mark.parametrize("error", [LauncherGone("the launcher has ended"), LauncherError("it refused")])
async def test_a_launcher_that_has_ended_is_no_defect_of_the_agent(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    queue, done, errors = WorkQueue[str](), asyncio.Event(), [error]

    async def reconcile(key: str) -> None:
        if errors:
            raise errors.pop()
        done.set()

    queue.add("one")
    await tried_twice(controller("virt-handler-test", queue, reconcile, 1), done)
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.exc_info is None
    assert str(error) in record.getMessage()


async def test_a_defect_leaves_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    queue, done, errors = WorkQueue[str](), asyncio.Event(), [ValueError("a defect")]

    async def reconcile(key: str) -> None:
        if errors:
            raise errors.pop()
        done.set()

    queue.add("one")
    await tried_twice(controller("virt-handler-test", queue, reconcile, 1), done)
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.exc_info is not None
