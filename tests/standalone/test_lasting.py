"""Parts of the process outlive calls that find no answer in time, and end with what is broken."""

from __future__ import annotations

import asyncio
import subprocess

import pytest

from polyvisor.kube.backoff import Backoff
from polyvisor.kube.errors import UNREACHABLE, ApiError
from polyvisor.standalone.lasting import passing, until_done

TIMED_OUT = ApiError(0, UNREACHABLE, "https://127.0.0.1:7443: ConnectTimeout")
AT_ONCE = Backoff(0.0, 0.0)


@pytest.mark.parametrize(
    "error",
    [
        TIMED_OUT,
        ApiError(500, "InternalError", "the database is locked"),
        ApiError(429, "TooManyRequests", "busy"),
        TimeoutError(),
        subprocess.TimeoutExpired("nft", 20),
        ExceptionGroup("tasks", [TIMED_OUT, ExceptionGroup("more", [TIMED_OUT])]),
    ],
)
async def test_what_passes_is_tried_again(error: Exception) -> None:
    errors = [error, error]

    async def work() -> str:
        if errors:
            raise errors.pop()
        return "done"

    assert await until_done("part", work, AT_ONCE) == "done"
    assert errors == []


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a defect"),
        ApiError(403, "Forbidden", "no"),
        ApiError(404, "NotFound", "no"),
        ExceptionGroup("tasks", [TIMED_OUT, ValueError("a defect")]),
    ],
)
async def test_what_does_not_pass_is_raised(error: Exception) -> None:
    async def work() -> None:
        raise error

    assert not passing(error)
    with pytest.raises(type(error)):
        await until_done("part", work, AT_ONCE)


async def test_cancelling_ends_it() -> None:
    task = asyncio.create_task(until_done("part", asyncio.Event().wait))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
