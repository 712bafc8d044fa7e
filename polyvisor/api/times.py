"""Times as they stand in objects of Kubernetes: RFC 3339 in UTC, to the second (``Time``) or finer (``MicroTime``)."""

from __future__ import annotations

from datetime import UTC, datetime


def stamp(at: datetime | None = None) -> str:
    """Return a time (now, without one) as a ``Time``: ``2026-01-31T12:00:00Z``."""
    return (at or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_stamp(at: datetime | None = None) -> str:
    """Return a time (now, without one) as a ``MicroTime``: ``2026-01-31T12:00:00.000000Z``."""
    return (at or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def moment(text: str | None) -> datetime | None:
    """Return the time that a text in an object means, UTC without a zone; None if there is none or it is broken."""
    try:
        found = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return found if found is None or found.tzinfo else found.replace(tzinfo=UTC)
