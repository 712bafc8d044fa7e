"""Sets of fields as server-side apply counts them.

A field is a tuple of steps in the notation of ``managedFields`` (``f:spec``, ``k:{"name":"web"}``, ``v:"x"``), so a
set of fields is a plain set of tuples. Only leaves are counted, and the items of keyed lists themselves, so that the
owner of an item can be told from the owner of what stands in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from polyvisor.api.resources import Resource

from .errors import Obj
from .listkeys import key_default, map_keys

Path = tuple[str, ...]
Fields = frozenset[Path]

_ITEM = object()
_UNTRACKED: frozenset[Path] = frozenset(
    [
        ("f:apiVersion",),
        ("f:kind",),
        *(
            ("f:metadata", f"f:{name}")
            for name in (
                *("name", "generateName", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp"),
                *("deletionTimestamp", "deletionGracePeriodSeconds", "managedFields", "selfLink"),
            )
        ),
    ]
)


def step_of_item(keys: tuple[str, ...], item: Any) -> str:
    """Return the step to an item: ``k:{...}`` by its keys, or ``v:...`` in a set of plain values."""
    if not keys or not isinstance(item, dict):
        return "v:" + _compact(item)
    return "k:" + _compact({key: item.get(key, key_default(key)) for key in keys})


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def leaves(resource: Resource, obj: Obj) -> dict[Path, Any]:
    """Return every field of an object with its value."""
    found: dict[Path, Any] = {}
    _walk(resource, obj, (), (), found)
    return found


def _walk(resource: Resource, value: Any, path: Path, names: Path, found: dict[Path, Any]) -> None:
    if isinstance(value, dict):
        if not value and path:
            found[path] = value
        for name, inner in value.items():
            deeper = (*path, f"f:{name}")
            if len(deeper) > 2 or deeper not in _UNTRACKED:
                _walk(resource, inner, deeper, (*names, name), found)
        return
    keys = map_keys(resource, names) if isinstance(value, list) else None
    if keys is None:
        found[path] = value
        return
    for item in value:
        deeper = (*path, step_of_item(keys, item))
        found[deeper] = _ITEM
        if keys and isinstance(item, dict):
            _walk(resource, item, deeper, names, found)


def fields_of(resource: Resource, obj: Obj) -> Fields:
    """Return the set of an object's fields."""
    return frozenset(leaves(resource, obj))


def changed(resource: Resource, old: Obj, new: Obj) -> tuple[Fields, Fields]:
    """Compare: fields that are new or have another value, and fields that are gone."""
    before, after = leaves(resource, old), leaves(resource, new)
    touched = frozenset(path for path, value in after.items() if path not in before or before[path] != value)
    return touched, frozenset(before.keys() - after.keys())


def to_tree(fields: Iterable[Path]) -> Obj:
    """Write a set as ``fieldsV1``."""
    fields = set(fields)
    tree: Obj = {}
    for path in sorted(fields):
        node = tree
        for step in path:
            node = node.setdefault(step, {})
    for path in fields:
        node = tree
        for step in path:
            node = node[step]
        if node and path[-1][0] == "k":
            node["."] = {}
    return tree


def from_tree(tree: Any) -> Fields:
    """Read ``fieldsV1``."""
    found: set[Path] = set()

    def walk(node: Any, path: Path) -> None:
        if not isinstance(node, dict):
            return
        if path and (not node or "." in node):
            found.add(path)
        for step, inner in node.items():
            if step != ".":
                walk(inner, (*path, step))

    walk(tree, ())
    return frozenset(found)


def dotted(path: Path) -> str:
    """Write a field for people: ``.spec.containers[name="web"].image``."""
    text = ""
    for step in path:
        kind, _, rest = step.partition(":")
        if kind == "f":
            text += f".{rest}"
        elif kind == "k":
            text += "[" + ",".join(f"{key}={json.dumps(value)}" for key, value in json.loads(rest).items()) + "]"
        else:
            text += f"[={rest}]"
    return text


def merge(resource: Resource, live: Any, wanted: Any, names: Path = ()) -> Any:
    """Lay ``wanted`` over ``live``: maps and keyed lists by item, anything else as one value."""
    if isinstance(live, dict) and isinstance(wanted, dict):
        merged = dict(live)
        for name, value in wanted.items():
            merged[name] = merge(resource, live[name], value, (*names, name)) if name in live else value
        return merged
    if not isinstance(live, list) or not isinstance(wanted, list):
        return wanted
    keys = map_keys(resource, names)
    if keys is None:
        return wanted
    items = {step_of_item(keys, item): item for item in live}
    for item in wanted:
        step = step_of_item(keys, item)
        items[step] = merge(resource, items[step], item, names) if step in items else item
    return list(items.values())


def prune(resource: Resource, obj: Obj, gone: Fields, kept: Fields) -> Obj:
    """Take fields out of an object, and maps and items that are empty then and in nobody's keeping."""
    held = {path[:length] for path in kept for length in range(1, len(path) + 1)}
    doomed = gone - held
    if not doomed:
        return obj
    above = {path[:length] for path in doomed for length in range(len(path))}
    result: Obj = _prune(resource, obj, (), (), doomed, above, held)
    return result


def _prune(
    resource: Resource, value: Any, path: Path, names: Path, doomed: Fields, above: set[Path], held: set[Path]
) -> Any:
    if path not in above:
        return value
    if isinstance(value, dict):
        result = {}
        for name, inner in value.items():
            deeper = (*path, f"f:{name}")
            if deeper in doomed:
                continue
            left = _prune(resource, inner, deeper, (*names, name), doomed, above, held)
            if left in ({}, []) and inner not in ({}, []) and deeper not in held:
                continue
            result[name] = left
        return result
    keys = map_keys(resource, names) if isinstance(value, list) else None
    if keys is None:
        return value
    items = []
    for item in value:
        deeper = (*path, step_of_item(keys, item))
        if deeper not in doomed:
            items.append(_prune(resource, item, deeper, names, doomed, above, held))
    return items
