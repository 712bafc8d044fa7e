"""Where in a machine's spec something is asked for: patterns over the typed objects, read back as field paths.

A pattern is written in attributes (``domain.devices.disks[].cdrom.bus``); what is found is named by the manifest's own
words (``spec.domain.devices.disks[0].cdrom.bus``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from polyvisor.api.base import wire_name

Test = Any
"""What a place's value must be: a function that says so (``is_set``), or a value that it equals."""


def is_set(value: Any) -> bool:
    """Whether anything is given."""
    return value is not None


def more_than_one(value: Any) -> bool:
    """Whether a number above one is given."""
    return value is not None and value > 1


def enabled(value: Any) -> bool:
    """Whether a feature with a switch of its own is given and not switched off."""
    return value is not None and value.enabled is not False


def places(spec: Any, pattern: str, test: Test = is_set) -> list[str]:
    """Return the field paths below ``spec`` that match ``pattern`` and pass ``test``."""
    return [path for path, value in _walk(spec, pattern.split("."), "spec") if _passes(value, test)]


def _passes(value: Any, test: Test) -> bool:
    return bool(test(value)) if callable(test) else type(value) is type(test) and value == test


def _walk(value: Any, parts: list[str], path: str) -> Iterator[tuple[str, Any]]:
    if not parts:
        yield path, value
        return
    if value is None:
        return
    name, many, _ = parts[0].partition("[]")
    inner = getattr(value, name, None)
    here = f"{path}.{wire_name(name)}"
    if many:
        for number, item in enumerate(inner or []):
            yield from _walk(item, parts[1:], f"{here}[{number}]")
    else:
        yield from _walk(inner, parts[1:], here)
