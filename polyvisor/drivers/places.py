"""Where in a machine's spec something is asked for: patterns over the typed objects, read back as field paths.

A pattern is written in attributes (``domain.devices.disks[].cdrom.bus``); what is found is named by the manifest's own
words (``spec.domain.devices.disks[0].cdrom.bus``). All patterns of the catalogue are joined into one tree, so that a
spec is walked once, along what it gives, however many features there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from polyvisor.api.base import wire_name

Test = Any
"""What a place's value must be: a function that says so (``is_set``), or a value that it equals."""
Place = tuple[str, Test]
"""A pattern and its test."""


class Whole(NamedTuple):
    """A place that only the whole spec tells of, such as what is not given; ``find`` returns the fields' paths."""

    pattern: str
    find: Callable[[Any], list[str]]


def is_set(value: Any) -> bool:
    """Whether anything is given."""
    return value is not None


def more_than_one(value: Any) -> bool:
    """Whether a number above one is given."""
    return value is not None and value > 1


def enabled(value: Any) -> bool:
    """Whether a feature with a switch of its own is given and not switched off."""
    return value is not None and value.enabled is not False


def wire_pattern(pattern: str) -> str:
    """Return a pattern in the manifest's own words."""
    parts = (part.partition("[]") for part in pattern.split("."))
    return ".".join(["spec", *(wire_name(name) + many for name, many, _ in parts)])


@dataclass(slots=True)
class _Node:
    attribute: str
    wire: str
    many: bool
    below: dict[str, _Node] = field(default_factory=dict)
    tests: list[tuple[str, Test]] = field(default_factory=list)


class Places:
    """Named places of a spec, found together."""

    def __init__(self, named: Iterable[tuple[str, Iterable[Place]]]) -> None:
        self._root = _Node("", "spec", False)
        self._whole: list[tuple[str, Whole]] = []
        for name, places in named:
            for place in places:
                if isinstance(place, Whole):
                    self._whole.append((name, place))
                    continue
                pattern, test = place
                node = self._root
                for part in pattern.split("."):
                    attribute, many, _ = part.partition("[]")
                    new = _Node(attribute, wire_name(attribute), bool(many))
                    node = node.below.setdefault(part, new)
                node.tests.append((name, test))

    def find(self, spec: Any) -> dict[str, list[str]]:
        """Return name -> field paths for every name that ``spec`` asks for."""
        found: dict[str, list[str]] = {}
        _walk(self._root, spec, "spec", found)
        for name, place in self._whole:
            if paths := place.find(spec):
                found.setdefault(name, []).extend(paths)
        return found


def _walk(node: _Node, value: Any, path: str, found: dict[str, list[str]]) -> None:
    for name, test in node.tests:
        if _passes(value, test):
            found.setdefault(name, []).append(path)
    for child in node.below.values():
        inner = getattr(value, child.attribute, None)
        if inner is None:
            continue
        here = f"{path}.{child.wire}"
        if child.many:
            for number, item in enumerate(inner):
                _walk(child, item, f"{here}[{number}]", found)
        else:
            _walk(child, inner, here, found)


def _passes(value: Any, test: Test) -> bool:
    return bool(test(value)) if callable(test) else type(value) is type(test) and value == test
