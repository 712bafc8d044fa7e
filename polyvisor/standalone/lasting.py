"""Work that is not expected to end, begun again when something found no answer in time.

Everything in the process speaks to the API server through its socket. On a busy machine a call may find no answer in
time, and that must cost no more than the time until the next try: the server is in the same process, so it is there.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from polyvisor.kube.backoff import Backoff
from polyvisor.kube.errors import ApiError

T = TypeVar("T")
AGAIN = Backoff(0.5, 30.0)
GOOD_SECONDS = 60.0
"""Work that went on for so long begins with the shortest delay again."""
logger = logging.getLogger(__name__)


def passing(error: BaseException) -> bool:
    """Whether an error, or each one of a group, is a call or a program that only found no answer in time."""
    if isinstance(error, BaseExceptionGroup):
        return all(passing(one) for one in error.exceptions)
    if isinstance(error, TimeoutError | subprocess.TimeoutExpired):
        return True
    return isinstance(error, ApiError) and (error.unreachable or error.code in (408, 429) or error.code >= 500)


async def until_done(name: str, work: Callable[[], Awaitable[T]], backoff: Backoff = AGAIN) -> T:
    """Do work that may be repeated until it ends; errors that do not pass are raised."""
    failures = 0
    while True:
        began = time.monotonic()
        try:
            return await work()
        except Exception as error:
            if not passing(error):
                raise
            failures = 0 if time.monotonic() - began > GOOD_SECONDS else failures
            delay = backoff.delay(failures)
            failures += 1
            logger.warning("%s: %s; again in %.1f s", name, _said(error), delay)
        await asyncio.sleep(delay)


def _said(error: BaseException) -> str:
    """Return the error's text, or the first of a group's."""
    return _said(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else str(error)
