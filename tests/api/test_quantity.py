from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from polyvisor.api.quantity import QuantityError, format_quantity, parse_quantity, whole


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("64Mi", 64 << 20),
        ("1Gi", 1 << 30),
        ("1.5Gi", 3 << 29),
        ("128974848", 128974848),
        ("129e6", 129_000_000),
        ("129M", 129_000_000),
        ("1E", 10**18),
        ("500m", Decimal("0.5")),
        ("1n", Decimal("1e-9")),
        ("-1", -1),
        (".5", Decimal("0.5")),
        (2, 2),
        (0.5, Decimal("0.5")),
    ],
)
def test_a_quantity_is_read_exactly(text: Any, number: int | Decimal) -> None:
    assert parse_quantity(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "64MB",
        "64 Mi",
        "Mi",
        "1e",
        "0x10",
        "1e999",
        "1e99999999999",
        "9" * 100,
        "NaN",
        "inf",
        None,
        True,
        [],
        {},
    ],
)
def test_what_is_no_quantity_is_refused(text: Any) -> None:
    with pytest.raises(QuantityError):
        parse_quantity(text)


@pytest.mark.parametrize("text", ["0", "1", "64Mi", "1500m", "3Gi", "1Ti", "12345", "7u"])
def test_a_quantity_is_written_as_it_was_read(text: str) -> None:
    assert format_quantity(parse_quantity(text)) == text


def test_fractions_round_up_to_whole_numbers() -> None:
    assert whole("1500m") == 2
    assert whole("100m") == 1
