"""Reading JSON that may be malformed: the wrong type reads as empty.

The strict check has already reported wrong types; the rules that follow look at what is there and must not stumble.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from polyvisor.api import Obj, Problem
from polyvisor.api.checking import MAX_PROBLEMS
from polyvisor.api.problems import Reason
from polyvisor.api.quantity import QuantityError, parse_quantity

MAX_TEXT = 1024
"""Characters of a problem's path, and of its message."""
MAX_NAMES = 10


@dataclass
class Findings:
    """Collects what the rules have to say about one object."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, path: str, message: str, reason: Reason = "FieldValueInvalid", feature: str = "") -> None:
        """Report a problem; those beyond ``MAX_PROBLEMS`` are left out, as is the rest of a long message."""
        if len(self.problems) <= MAX_PROBLEMS:
            self.problems.append(Problem(path[:MAX_TEXT], message[:MAX_TEXT], reason, feature))

    def required(self, path: str, message: str) -> None:
        """Report something that is missing."""
        self.add(path, message, "FieldValueRequired")

    def duplicate(self, path: str, message: str) -> None:
        """Report something that is there twice."""
        self.add(path, message, "FieldValueDuplicate")


def listed(names: Iterable[str]) -> str:
    """Return names for a message: a few of them, and how many more there are."""
    found = sorted(names)
    shown = ", ".join(name[:80] for name in found[:MAX_NAMES])
    more = f" and {len(found) - MAX_NAMES} more" if len(found) > MAX_NAMES else ""
    return f"{shown}{more}" if found else "none"


def mapping(value: Any, *keys: str) -> Obj:
    """Return the object at ``keys`` below ``value``, empty if it is not there."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def items(value: Any, path: str) -> Iterator[tuple[str, Obj]]:
    """Yield (path, object) for each object of a list."""
    for index, item in enumerate(value if isinstance(value, list) else ()):
        if isinstance(item, dict):
            yield f"{path}[{index}]", item


def texts(value: Any) -> list[str]:
    """Return the strings of a list."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def text(value: Any) -> str:
    """Return a string, empty if it is none."""
    return value if isinstance(value, str) else ""


def number(value: Any) -> int | None:
    """Return an integer, None if it is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def amount(value: Any) -> int | Decimal | None:
    """Return a quantity's number, None if it is none."""
    try:
        return None if value is None else parse_quantity(value)
    except QuantityError:
        return None
