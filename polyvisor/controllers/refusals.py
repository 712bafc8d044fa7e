"""Which machines' instances the API server refused, so that it is not asked the same again all the time.

A refusal is written into a status, the status is a change, and a change is a reason to look again: so the wait is kept
here, by generation, and whatever else happens to the machine does not shorten it. A changed machine is asked for at
once. The wait ends by itself because what refused it may change too: the configuration, or another object.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from polyvisor.kube.backoff import Backoff, Retries

BACKOFF = Backoff(base=5.0, cap=300.0, jitter=0.0)
Key = tuple[str, str]


class Refusals:
    """Refusals by machine."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._retries: Retries[Key] = Retries(BACKOFF, clock)
        self._said: dict[Key, tuple[int, str]] = {}

    def note(self, key: Key, generation: int, message: str) -> float:
        """Note that this generation was refused; return the seconds until it may be asked for again."""
        if key in self._said and self._said[key][0] != generation:
            self._retries.worked(key)
        self._said[key] = (generation, message)
        return self._retries.failed(key)

    def standing(self, key: Key, generation: int) -> tuple[float, str] | None:
        """Return the seconds left and the words of a refusal of this generation, None if it may be asked for."""
        refused, message = self._said.get(key, (generation, ""))
        left = self._retries.left(key)
        return (left, message) if refused == generation and left > 0 else None

    def forget(self, key: Key) -> None:
        """The machine was let in, or is gone."""
        self._said.pop(key, None)
        self._retries.worked(key)
