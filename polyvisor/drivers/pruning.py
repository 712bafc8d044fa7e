"""Cutting the shared domain XML down to what a driver reads, by naming what stays."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxml.etree import _Element


def keep(element: _Element, tags: Collection[str]) -> None:
    """Remove every child whose tag is not among ``tags``."""
    for child in list(element):
        if child.tag not in tags:
            element.remove(child)


def keep_attributes(element: _Element, names: Collection[str]) -> None:
    """Remove every attribute that is not among ``names``."""
    for name in list(element.attrib):
        if name not in names:
            del element.attrib[name]


def part(element: _Element, tag: str) -> _Element:
    """Return the child of that tag, which the shared blocks always write."""
    child = element.find(tag)
    assert child is not None, tag
    return child
