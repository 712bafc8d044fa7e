"""The three ways of patching: JSON patch (RFC 6902), JSON merge patch (RFC 7386) and strategic merge patch.

Strategic merge knows lists whose items have a key: an item of the patch is merged into the item with the same key.
Directives are those that kubectl writes: ``$patch: delete|replace|merge``, ``$deleteFromPrimitiveList/<field>``,
``$setElementOrder/<field>`` and ``$retainKeys``.
"""

from __future__ import annotations

import copy
from types import MappingProxyType
from typing import Any

import jsonpatch

from polyvisor.api.resources import Resource

from .errors import Obj, StatusError, bad_request
from .listkeys import PatchKeys, patch_keys

_DELETE_PRIMITIVES = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"


class _Test(jsonpatch.TestOperation):
    """As Kubernetes has it, a member that is not there counts as null."""

    def apply(self, obj: Any) -> Any:
        if self.operation.get("value", "") is None:
            holder, name = self.pointer.to_last(obj)
            if isinstance(holder, dict) and name is not None and name not in holder:
                return obj
        try:
            return super().apply(obj)
        except jsonpatch.JsonPatchTestFailed as error:
            path = str(self.operation.get("path"))[:200]
            raise jsonpatch.JsonPatchTestFailed(f"testing value {path} failed: it is not what the test says") from error


class _JsonPatch(jsonpatch.JsonPatch):
    operations = MappingProxyType({**jsonpatch.JsonPatch.operations, "test": _Test})


def json_patch(obj: Any, patch: Any) -> Any:
    """Apply a list of operations; one that does not fit makes the whole patch invalid."""
    if not isinstance(patch, list):
        raise bad_request("a JSON patch must be a list of operations")
    if len(patch) > 10000:
        raise StatusError(413, "RequestEntityTooLarge", "the JSON patch has more than 10000 operations")
    changed = copy.deepcopy(obj)
    for number, operation in enumerate(patch):
        if not isinstance(operation, dict):
            raise _unfit(f"operation {number} is not an object")
        try:
            changed = _JsonPatch([operation]).apply(changed, in_place=True)
        except (jsonpatch.JsonPatchTestFailed, jsonpatch.InvalidJsonPatch) as error:
            raise _unfit(str(error)) from error
        except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, *_PYTHONS) as error:
            raise _unfit(f"operation {number} {_described(operation)}") from error  # what Python says shows the object
    return changed


_PYTHONS = (TypeError, KeyError, AttributeError, IndexError, ValueError)
"""What the library lets through of places that an object does not have."""


def _unfit(why: str) -> StatusError:
    return StatusError(422, "Invalid", f"the server rejected our request due to an error in our request: {why}")


def _described(operation: Obj) -> str:
    source = [f"{operation['from']} to"] if "from" in operation else []
    words = [operation.get("op"), *source, operation.get("path")]
    return f"({' '.join(str(word)[:200] for word in words)}): there is no such place"


def merge_patch(obj: Any, patch: Any) -> Any:
    """Merge; null deletes; lists are replaced."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(obj) if isinstance(obj, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def strategic_patch(resource: Resource, obj: Any, patch: Any) -> Any:
    """Merge a patch the way that the kind's lists want it. Custom kinds have no strategy: 415, as Kubernetes."""
    if resource.custom:
        message = (
            "the body of the request was in an unknown format - accepted media types include: "
            "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
        )
        raise StatusError(415, "UnsupportedMediaType", message)
    if not isinstance(patch, dict):
        raise bad_request("a strategic merge patch must be an object")
    return _merge(copy.deepcopy(obj), patch, resource, ())


def _merge(obj: Any, patch: dict[str, Any], resource: Resource, path: tuple[str, ...]) -> Any:
    directive = patch.get("$patch")
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    target: dict[str, Any] = obj if isinstance(obj, dict) else {}
    retained = patch.get("$retainKeys")
    if isinstance(retained, list):
        target = {key: value for key, value in target.items() if key in retained}
    for key, value in patch.items():
        if key in ("$patch", "$retainKeys") or key.startswith(_ORDER):
            continue
        if key.startswith(_DELETE_PRIMITIVES):
            field = key.removeprefix(_DELETE_PRIMITIVES)
            if isinstance(value, list) and isinstance(target.get(field), list):
                target[field] = [one for one in target[field] if one not in value]
        elif value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            target[key] = _merge(target.get(key), value, resource, (*path, key))
        elif isinstance(value, list):
            target[key] = _merge_list(target.get(key), value, resource, (*path, key))
        else:
            target[key] = value
    for key, order in patch.items():
        field = key.removeprefix(_ORDER)
        if key.startswith(_ORDER) and isinstance(order, list) and isinstance(target.get(field), list):
            target[field] = _ordered(target[field], order, patch_keys(resource, (*path, field)))
    return target


def _merge_list(old: Any, patch: list[Any], resource: Resource, path: tuple[str, ...]) -> list[Any]:
    keys = patch_keys(resource, path)
    items: list[Any] = list(old) if isinstance(old, list) else []
    if any(isinstance(one, dict) and one.get("$patch") == "replace" for one in patch):
        return [one for one in patch if not (isinstance(one, dict) and one.get("$patch") == "replace")]
    if keys is None:
        return patch
    if keys == ():
        return items + [one for one in patch if one not in items]
    key = keys[0]
    for one in patch:
        if not isinstance(one, dict) or key not in one:
            raise StatusError(422, "Invalid", f"{'.'.join(path)}: map does not contain the merge key {key!r}: {one!r}")
        places = [at for at, item in enumerate(items) if isinstance(item, dict) and item.get(key) == one[key]]
        if one.get("$patch") == "delete":
            items = [item for at, item in enumerate(items) if at not in places]
        elif places:
            items[places[0]] = _merge(items[places[0]], one, resource, path)
        else:
            items.append(_merge({}, one, resource, path))
    return items


def _ordered(items: list[Any], order: list[Any], keys: PatchKeys) -> list[Any]:
    """Put the items that the order names in that order, after the others' places were kept relative to the end."""

    def identity(item: Any) -> Any:
        return item.get(keys[0]) if keys and isinstance(item, dict) else item

    wanted = [identity(one) for one in order]
    named = [item for item in items if identity(item) in wanted]
    others = [item for item in items if identity(item) not in wanted]
    return sorted(named, key=lambda item: wanted.index(identity(item))) + others
