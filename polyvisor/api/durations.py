"""Durations as they stand in objects of Kubernetes, in the notation of Go: ``300ms``, ``1.5h``, ``2h45m``."""

from __future__ import annotations

import re

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
MAX_LENGTH = 64


def seconds_of(text: str) -> float:
    """Return the seconds of a duration; raises ValueError with what is accepted."""
    whole = text.strip()
    if whole == "0":
        return 0.0
    parts = _PART.findall(whole) if len(whole) <= MAX_LENGTH else []
    if not parts or "".join(number + unit for number, unit in parts) != whole:
        raise ValueError(f"found {text[:MAX_LENGTH]!r}; a duration is wanted, such as 30s, 5m or 1h30m")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
