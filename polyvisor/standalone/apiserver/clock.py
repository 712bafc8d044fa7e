"""Time as Kubernetes writes it, and ages as kubectl prints them."""

from __future__ import annotations

from datetime import UTC, datetime

from polyvisor.api.times import moment, stamp


def now() -> str:
    """Return the time, to the second (``2026-11-24T00:10:00Z``)."""
    return stamp()


def parsed(text: object) -> datetime | None:
    """Read a moment, with or without fractions; None if it is none."""
    return moment(text) if isinstance(text, str) else None


def age(since: object, at: datetime | None = None) -> str:
    """Return the time since a moment, as ``kubectl get`` shows it."""
    began = parsed(since)
    if began is None:
        return "<unknown>"
    seconds = int(((at or datetime.now(UTC)) - began).total_seconds())
    if seconds < -1:
        return "<invalid>"
    return duration(max(seconds, 0))


def duration(seconds: int) -> str:
    """Write a duration with the two units that matter."""
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 730:
        return f"{days}d"
    years = days // 365
    return f"{years}y{days % 365}d" if years < 8 and days % 365 else f"{years}y"
