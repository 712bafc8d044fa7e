"""Limits on an object before any rule runs: what a rule costs may grow with an object, so the object may not.

The API server bounds an object's bytes; a megabyte of names is still a hundred thousand items, and rules compare items
with each other. No object that means anything comes near these limits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from polyvisor.api import Problem
from polyvisor.api.checking import MAX_ITEMS

MAX_VALUES = 50_000
"""Objects, lists and plain values in an object, all levels together."""
MAX_NESTING = 64
LEFT_ALONE = ("status",)
"""Written by components, not by users."""


def exceeded(obj: Any) -> Problem | None:
    """Return what is too large about an object, if anything is; costs no more than the limits."""
    values = 0
    todo: list[tuple[str, Any, int]] = [(key, value, 1) for key, value in obj.items() if key not in LEFT_ALONE]
    while todo:
        path, value, depth = todo.pop()
        if isinstance(value, list) and len(value) > MAX_ITEMS:
            return Problem(path[:256], f"has {len(value)} items; at most {MAX_ITEMS} are accepted")
        if depth > MAX_NESTING:
            return Problem(path[:256], f"is nested deeper than {MAX_NESTING} levels")
        for name, item in _below(path, value):
            values += 1
            if values > MAX_VALUES:
                return Problem("", f"holds more than {MAX_VALUES} values; split it into several objects")
            if isinstance(item, dict | list):
                todo.append((name, item, depth + 1))
    return None


def _below(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield (f"{path}.{str(key)[:80]}" if len(path) < 256 else path), item
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield f"{path}[{index}]", item
