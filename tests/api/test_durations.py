from __future__ import annotations

import pytest

from polyvisor.api.durations import seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("0s", 0), ("300ms", 0.3), ("1h30m", 5400), ("1.5h", 5400), ("5m0s", 300), ("2us", 2e-6)],
)
def test_a_duration_in_gos_notation(text: str, seconds: float) -> None:
    assert seconds_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "5 m", "5mm", "1d", "1h x", "9" * 70 + "s"])
def test_anything_else_is_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(ValueError, match="such as 30s, 5m or 1h30m"):
        seconds_of(text)
