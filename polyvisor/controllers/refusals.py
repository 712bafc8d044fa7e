"""Which machines' instances the API server refused, so that it is not asked the same again all the time.

A refusal is written into a status, the status is a change, and a change is a reason to look again: so the wait is kept
here, by generation, and whatever else happens to the machine does not shorten it. A changed machine is asked for at
once. The wait ends by itself because what refused it may change too: the configuration, or another object.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

FIRST_SECONDS = 5.0
LONGEST_SECONDS = 300.0
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Refusal:
    generation: int
    count: int
    until: float
    message: str


class Refusals:
    """Refusals by machine."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[Key, _Refusal] = {}

    def note(self, key: Key, generation: int, message: str) -> float:
        """Note that this generation was refused; return the seconds until it may be asked for again."""
        before = self._known.get(key)
        count = before.count if before is not None and before.generation == generation else 0
        wait = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0**count)
        self._known[key] = _Refusal(generation, count + 1, self._clock() + wait, message)
        return wait

    def standing(self, key: Key, generation: int) -> tuple[float, str] | None:
        """Return the seconds left and the words of a refusal of this generation, None if it may be asked for."""
        found = self._known.get(key)
        if found is None or found.generation != generation:
            return None
        left = found.until - self._clock()
        return (left, found.message) if left > 0 else None

    def forget(self, key: Key) -> None:
        """The machine was let in, or is gone."""
        self._known.pop(key, None)
