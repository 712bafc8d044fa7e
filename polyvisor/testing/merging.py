"""Putting manifests together from fragments: fields below fields, list items by their name."""

from __future__ import annotations

import copy
from typing import Any

from polyvisor.api import Obj


def at(path: str, value: Any) -> Obj:
    """Return the fragment with ``value`` at ``path``, such as ``domain.cpu.cores``."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return dict(value)


def merged(*fragments: Obj) -> Obj:
    """Return one object with all of the fragments; a later one wins. None of them is changed."""
    whole: Obj = {}
    for fragment in fragments:
        whole = _both(whole, fragment)
    return whole


def _both(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        both = {key: _both(one[key], other[key]) for key in one.keys() & other.keys()}
        return {key: both[key] if key in both else copy.deepcopy({**one, **other}[key]) for key in {**one, **other}}
    if isinstance(one, list) and isinstance(other, list):
        named = {item["name"]: item for item in other if isinstance(item, dict) and "name" in item}
        known = [item.get("name") if isinstance(item, dict) else None for item in one]
        kept = [
            _both(item, named[name]) if name in named else copy.deepcopy(item)
            for item, name in zip(one, known, strict=True)
        ]
        return kept + [
            copy.deepcopy(item) for item in other if not (isinstance(item, dict) and item.get("name") in known)
        ]
    return copy.deepcopy(other)
