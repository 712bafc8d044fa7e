"""How long to leave something alone that failed: longer each time, whatever else calls for it meanwhile.

A failure is written into a status, the status is a change, and a change is a reason to look again: without this, each
failure would cause the next at once.
"""

from __future__ import annotations

import time

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 60.0


class Patience:
    """Failures by key."""

    def __init__(self) -> None:
        self._failures: dict[str, tuple[int, float]] = {}

    def failed(self, key: str) -> float:
        """Note a failure; return the seconds until the next try."""
        count, _ = self._failures.get(key, (0, 0.0))
        delay = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0**count)
        self._failures[key] = (count + 1, time.monotonic() + delay)
        return delay

    def left(self, key: str) -> float:
        """Return the seconds until the next try; 0 if it may be now."""
        return max(0.0, self._failures.get(key, (0, 0.0))[1] - time.monotonic())

    def failures(self, key: str) -> int:
        """Return how often in a row something failed."""
        return self._failures.get(key, (0, 0.0))[0]

    def worked(self, key: str) -> None:
        """Forget the failures of a key."""
        self._failures.pop(key, None)
