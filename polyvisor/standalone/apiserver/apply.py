"""Server-side apply, and the bookkeeping of who owns which field (``metadata.managedFields``).

Whoever writes a field owns it. Applying may not change what another owns, unless forced; fields that an applier no
longer names and nobody else owns are taken away. Other writes take over what they change without asking.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from polyvisor.api.reading import annotations_of
from polyvisor.api.resources import Resource

from .clock import now
from .errors import Obj, StatusError, bad_request
from .fields import Fields, changed, dotted, fields_of, from_tree, merge, prune, to_tree

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True, slots=True)
class Manager:
    """One entry of ``managedFields``."""

    name: str
    operation: str
    api_version: str
    subresource: str = ""
    fields: Fields = frozenset()
    time: str = ""

    def same(self, other: Manager) -> bool:
        """Tell whether both are the same writer by the same way."""
        return (self.name, self.operation, self.subresource) == (other.name, other.operation, other.subresource)

    def to_obj(self) -> Obj:
        """Return the entry as JSON."""
        entry: Obj = {
            "manager": self.name,
            "operation": self.operation,
            "apiVersion": self.api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": to_tree(self.fields),
        }
        if self.subresource:
            entry["subresource"] = self.subresource
        return entry


def managers_of(obj: Obj) -> list[Manager]:
    """Read ``managedFields``; what cannot be read is dropped."""
    found = []
    for entry in obj["metadata"].get("managedFields") or []:
        if isinstance(entry, dict) and entry.get("operation") in ("Apply", "Update"):
            found.append(
                Manager(
                    str(entry.get("manager", "")),
                    entry["operation"],
                    str(entry.get("apiVersion", "")),
                    str(entry.get("subresource", "")),
                    from_tree(entry.get("fieldsV1")),
                    str(entry.get("time", "")),
                )
            )
    return found


def _with(obj: Obj, managers: list[Manager]) -> Obj:
    metadata = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    entries = [manager.to_obj() for manager in managers if manager.fields]
    if entries:
        metadata["managedFields"] = entries
    return {**obj, "metadata": metadata}


def track_update(resource: Resource, old: Obj | None, new: Obj, manager: str, subresource: str = "") -> Obj:
    """Return ``new`` with the fields that it changed in the hands of ``manager``."""
    given = new["metadata"].get("managedFields")
    base = new if given else old
    managers = managers_of(base) if base is not None and given != [] and given != [{}] else []
    touched, gone = changed(resource, old or {}, new)
    mine = Manager(manager, "Update", resource.api_version, subresource)
    existing = next((one for one in managers if one.same(mine)), mine)
    result = [replace(one, fields=one.fields - touched - gone) if one is not existing else one for one in managers]
    updated = replace(existing, fields=(existing.fields | touched) - gone)
    if updated.fields != existing.fields or touched:
        updated = replace(updated, time=now())
    result = [updated if one is existing else one for one in result] if existing in managers else [*result, updated]
    return _with(new, result)


def apply(resource: Resource, live: Obj | None, wanted: Obj, manager: str, force: bool, subresource: str = "") -> Obj:
    """Return the live object with ``wanted`` applied; 409 with a cause for each field that another owns."""
    if not manager:
        raise bad_request("fieldManager is required for apply patch")
    if wanted["metadata"].get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    applied = fields_of(resource, wanted)
    mine = Manager(manager, "Apply", resource.api_version, subresource, applied, now())
    managers = managers_of(live) if live is not None else []
    previous = next((one for one in managers if one.same(mine)), None)
    others = [one for one in managers if one is not previous]
    merged: Obj = merge(resource, live, wanted) if live is not None else wanted
    if live is not None:
        touched, gone = changed(resource, live, merged)
        upgrade = _last_applied(resource, live) if manager == "kubectl" else frozenset()
        others = _settle(others, touched | gone, upgrade, force)
    if previous is not None:
        kept: Fields = applied.union(*(one.fields for one in others))
        merged = prune(resource, merged, previous.fields - applied, kept)
        if previous.fields == applied:
            mine = replace(mine, time=previous.time)
    order = [mine if one is previous else next(o for o in others if o.same(one)) for one in managers]
    return _with(merged, order if previous is not None else [*others, mine])


def _last_applied(resource: Resource, live: Obj) -> Fields:
    """Return what the user applied on the client's side; kubectl may take that over without a conflict."""
    text = annotations_of(live).get(_LAST_APPLIED)
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return frozenset()
    return fields_of(resource, found) if isinstance(found, dict) else frozenset()


def _settle(others: list[Manager], changes: Fields, upgrade: Fields, force: bool) -> list[Manager]:
    conflicts = [(one, path) for one in others for path in sorted(one.fields & changes)]
    if not conflicts:
        return others
    if force or all(path in upgrade for _, path in conflicts):
        return [replace(one, fields=one.fields - changes) for one in others]
    causes: list[dict[str, Any]] = []
    by_manager: dict[str, list[str]] = {}
    for one, path in conflicts:
        who = f'conflict with "{one.name}"' + (f' with subresource "{one.subresource}"' if one.subresource else "")
        who += f" using {one.api_version}"
        causes.append({"reason": "FieldManagerConflict", "message": who, "field": dotted(path)})
        by_manager.setdefault(who, []).append(dotted(path))
    count = f"{len(causes)} conflict" + ("s" if len(causes) > 1 else "")
    if len(causes) == 1:
        listed = f"{causes[0]['message']}: {causes[0]['field']}"
    else:
        listed = "\n".join(f"{who}:\n" + "\n".join(f"- {path}" for path in paths) for who, paths in by_manager.items())
        listed = listed.replace("conflict with", "conflicts with")
    raise StatusError(409, "Conflict", f"Apply failed with {count}: {listed}", {"causes": causes})
