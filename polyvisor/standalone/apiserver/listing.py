"""Lists in pages: the versions, the continue token, and what a list of a version in the past looks like."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass

from polyvisor.api.resources import Resource

from .errors import Obj, StatusError, bad_request, expired
from .registry import kind_of
from .selectors import Predicate
from .store import Store


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list, with the metadata of its answer."""

    items: list[Obj]
    metadata: Obj


def number(text: str, name: str) -> int:
    """Read a number from a query parameter."""
    if not text.isascii() or not text.isdigit():
        raise bad_request(f"{name}: Invalid value: {text!r}: must be a number, 0 or more")
    return int(text)


def too_large(store: Store, rv: int) -> StatusError:
    """Say that a version lies in the future."""
    details = {"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]}
    message = f"Timeout: Too large resource version: {rv}, current: {store.rv}"
    return StatusError(504, "Timeout", message, {**details, "retryAfterSeconds": 1})


def list_page(
    store: Store, resource: Resource, namespace: str | None, wanted: Predicate, query: dict[str, str]
) -> Page:
    """Answer a list request."""
    kind = kind_of(resource)
    limit = number(query["limit"], "limit") if query.get("limit") else 0
    version, match = query.get("resourceVersion", ""), query.get("resourceVersionMatch", "")
    start: tuple[str, str] | None = None
    if query.get("continue"):
        if version and version != "0":
            raise bad_request("specifying resource version is not allowed when using continue")
        rv, start = _decode(query["continue"])
        if rv < store.compacted:
            raise expired(
                "The provided continue parameter is too old to display a consistent list result. You can start a new "
                "list without the continue parameter."
            )
        found = store.list_at(kind, namespace, rv)
    else:
        if match and not version:
            raise bad_request("resourceVersionMatch: Forbidden: may only be set together with resourceVersion")
        if match not in ("", "Exact", "NotOlderThan"):
            raise bad_request(f"resourceVersionMatch: Unsupported value: {match!r}: use Exact or NotOlderThan")
        rv = number(version, "resourceVersion") if version else 0
        if rv > store.rv:
            raise too_large(store, rv)
        if match == "Exact":
            if rv == 0:
                raise bad_request('resourceVersionMatch: Forbidden: "Exact" is forbidden for resourceVersion "0"')
            found = store.list_at(kind, namespace, rv)
        else:
            rv = store.rv
            found = store.select(kind, namespace)
    if start is not None:
        found = [one for one in found if (one["metadata"].get("namespace", ""), one["metadata"]["name"]) > start]
    found = [one for one in found if wanted(one)]
    metadata: Obj = {"resourceVersion": str(rv)}
    if limit and len(found) > limit:
        metadata["continue"] = _encode(rv, found[limit - 1])
        if not query.get("labelSelector") and not query.get("fieldSelector"):
            metadata["remainingItemCount"] = len(found) - limit
        found = found[:limit]
    return Page(found, metadata)


def _encode(rv: int, last: Obj) -> str:
    metadata = last["metadata"]
    text = json.dumps([rv, metadata.get("namespace", ""), metadata["name"]])
    return base64.urlsafe_b64encode(text.encode()).decode()


def _decode(token: str) -> tuple[int, tuple[str, str]]:
    try:
        rv, namespace, name = json.loads(base64.urlsafe_b64decode(token.encode()))
        return int(rv), (str(namespace), str(name))
    except (binascii.Error, ValueError, TypeError, UnicodeError):
        raise bad_request("continue key is not valid") from None
