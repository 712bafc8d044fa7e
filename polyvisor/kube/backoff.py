"""Waiting longer after each failure, with jitter so that many clients do not come back at the same moment."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays of ``base * 2**n`` up to ``cap`` seconds, each lengthened by a random share of up to ``jitter``."""

    base: float
    cap: float
    jitter: float = 0.2

    def delay(self, failures: int) -> float:
        """Return the seconds to wait after ``failures`` earlier failures (0 for the first)."""
        plain = min(self.cap, self.base * 2.0 ** min(failures, 62))
        return plain * (1.0 + self.jitter * random.random())


class Retries(Generic[Key]):
    """Failures by key, each of which is left alone for longer than the one before, whatever else calls for it.

    A failure is written into a status, the status is a change, and a change is a reason to look again: without this,
    each failure would cause the next at once.
    """

    def __init__(self, backoff: Backoff, clock: Callable[[], float] = time.monotonic) -> None:
        self._backoff = backoff
        self._clock = clock
        self._failures: dict[Key, tuple[int, float]] = {}

    def failed(self, key: Key) -> float:
        """Note a failure; return the seconds until the next try."""
        count = self.failures(key)
        delay = self._backoff.delay(count)
        self._failures[key] = (count + 1, self._clock() + delay)
        return delay

    def left(self, key: Key) -> float:
        """Return the seconds until the next try; 0 if it may be now."""
        return max(0.0, self._failures[key][1] - self._clock()) if key in self._failures else 0.0

    def failures(self, key: Key) -> int:
        """Return how often in a row something failed."""
        return self._failures[key][0] if key in self._failures else 0

    def worked(self, key: Key) -> None:
        """Forget the failures of a key."""
        self._failures.pop(key, None)
