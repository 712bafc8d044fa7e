"""Time stamps as Kubernetes has them, there and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from polyvisor.api.times import micro_stamp, moment, stamp

AT = datetime(2026, 1, 31, 12, 0, 0, 250, tzinfo=UTC)


def test_a_time_is_written_in_utc() -> None:
    assert stamp(AT) == "2026-01-31T12:00:00Z"
    assert stamp(AT.astimezone(timezone(timedelta(hours=5)))) == "2026-01-31T12:00:00Z"
    assert micro_stamp(AT) == "2026-01-31T12:00:00.000250Z"


@pytest.mark.parametrize("text", ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00", "2026-01-31T17:00:00+05:00"])
def test_a_text_is_read_with_its_zone_and_as_utc_without(text: str) -> None:
    assert moment(text) == AT.replace(microsecond=0)


@pytest.mark.parametrize("text", [None, "", "yesterday", "2026-13-01T00:00:00Z"])
def test_what_is_no_time_is_none(text: str | None) -> None:
    assert moment(text) is None
