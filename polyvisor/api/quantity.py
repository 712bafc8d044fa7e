"""Kubernetes quantities: ``64Mi``, ``1500m``, ``2e9``.

Arithmetic is exact: what is no whole number comes back as a :class:`~decimal.Decimal`, never as a float. The
number of digits is bounded, so that a hostile ``1e999999999`` costs nothing.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Context, Decimal
from typing import Any

_GRAMMAR = re.compile(r"([+-]?)([0-9]+\.?[0-9]*|\.[0-9]+)(?:([eE][+-]?[0-9]{1,3})|(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]))?")
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_MAX_LENGTH = 64
_MAX_EXPONENT = 30
_EXACT = Context(prec=160)


class QuantityError(ValueError):
    """A text that is not a quantity."""


def parse_quantity(value: Any) -> int | Decimal:
    """Return the number that a quantity stands for (bytes, cores, ...).

    Raises :class:`QuantityError` for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise QuantityError(f"a quantity such as 64Mi or 500m is wanted, not {value!r}")
    if isinstance(value, int):
        return value
    text = str(value)
    found = _GRAMMAR.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    if found is None:
        raise QuantityError(
            f"{text[:_MAX_LENGTH]!r} is not a quantity; write a number with an optional unit, as 64Mi or 500m"
        )
    sign, digits, exponent, unit = found.groups()
    number = Decimal(digits)
    if exponent:
        if abs(int(exponent[1:])) > _MAX_EXPONENT:
            raise QuantityError(f"{text!r} is out of range")
        number = _EXACT.scaleb(number, int(exponent[1:]))
    elif unit in _BINARY:
        number = _EXACT.multiply(number, Decimal(1 << _BINARY[unit]))
    elif unit:
        number = _EXACT.scaleb(number, _DECIMAL[unit])
    if sign == "-":
        number = -number
    return int(number) if number == number.to_integral_value() else number


def whole(value: Any) -> int:
    """Return a quantity as a whole number, rounded up as Kubernetes does."""
    return int(Decimal(parse_quantity(value)).to_integral_value(rounding=ROUND_CEILING))


def format_quantity(number: int | Decimal, *, binary: bool = True) -> str:
    """Return the shortest exact text of a number: ``67108864`` -> ``64Mi``; with ``binary=False``, ``64M`` style."""
    exact = Decimal(number)
    if exact == 0:
        return "0"
    if exact != exact.to_integral_value():
        for unit in ("m", "u", "n"):
            scaled = _EXACT.scaleb(exact, -_DECIMAL[unit])
            if scaled == scaled.to_integral_value():
                return f"{int(scaled)}{unit}"
        return f"{int(_EXACT.scaleb(exact, 9).to_integral_value(rounding=ROUND_CEILING))}n"
    value = int(exact)
    steps: list[tuple[str, int]]
    if binary:
        steps = [(unit, 1 << shift) for unit, shift in _BINARY.items()]
    else:
        steps = [(unit, int(10**power)) for unit, power in _DECIMAL.items() if power > 0]
    for unit, size in reversed(steps):
        if value % size == 0:
            return f"{value // size}{unit}"
    return str(value)
