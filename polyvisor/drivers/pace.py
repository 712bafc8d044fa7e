"""Time limits that follow how slow this machine is.

A limit is written for a whole idle core. On a machine that gives a tenth of one, or whose CPU is itself emulated, the
same work takes ten times as long and nothing is wrong. So when a limit has passed, the machine's pace is measured by a
little work of known length, and the limit is stretched by the result. Where everything is fast this costs nothing, as
no limit passes.
"""

from __future__ import annotations

import time
from collections.abc import Callable

ROUND = 600_000
ROUND_SECONDS = 0.035
"""What a round takes on one idle core of a server of 2020 (measured)."""
MEASURE_SECONDS = 0.2
MAX_SLOWNESS = 50.0
"""However slow a machine is, what really hangs must be given up."""


def slowness(clock: Callable[[], float] = time.monotonic, work: Callable[[], None] | None = None) -> float:
    """Return how many times longer than on an idle core work takes now: 1 to ``MAX_SLOWNESS``. Blocking, 0.2 s or more.

    Several rounds are averaged, because a limited CPU share is handed out in pieces.
    """
    began, rounds, passed = clock(), 0, 0.0
    while passed < MEASURE_SECONDS:
        (work or _work)()
        rounds += 1
        passed = clock() - began
    return min(MAX_SLOWNESS, max(1.0, passed / (rounds * ROUND_SECONDS)))


def _work() -> None:
    total = 0
    for number in range(ROUND):
        total += number & 3


def has_passed(deadline: Deadline) -> bool:
    """Whether a deadline has passed; for a thread, as it may take the time that the pace is measured in."""
    return deadline.passed


class Deadline:
    """A time limit of ``seconds`` on an idle core."""

    def __init__(
        self,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        measure: Callable[[], float] = slowness,
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._measure = measure
        self._began = clock()
        self._until = self._began + seconds

    @property
    def waited(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._began

    @property
    def left(self) -> float:
        """Seconds until the limit passes, or has to be measured again; 0 at the least."""
        return max(0.0, self._until - self._clock())

    @property
    def passed(self) -> bool:
        """Whether the time is up at this machine's pace, which is measured each time when the limit seems to pass."""
        if self._clock() < self._until:
            return False
        self._until = max(self._until, self._began + self._seconds * self._measure())
        return self._clock() >= self._until
