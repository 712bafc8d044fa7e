"""Waiting longer after each failure, with jitter so that many clients do not come back at the same moment."""

from __future__ import annotations

import random
from dataclasses import dataclass


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
