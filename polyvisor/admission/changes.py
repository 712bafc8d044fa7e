"""The smallest change to a spec with which a driver would take it: fields left out or given another value.

Found by trying: each refused field is left out, so that the driver chooses for itself; where a field knows a set of
values, those that would do as well are named too. What cannot be left out alone takes its list item with it, and a
volume or network its disk or interface; where something must stand in its place, that is added. Every proposal was
applied and judged before it is made. List items carry their place in the user's manifest with them, so that a path
stays right after an earlier item was left out.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Any

from pydantic import ValidationError

from polyvisor.admission import defaults, hardware, network, platform, storage
from polyvisor.admission.values import Findings
from polyvisor.api import Obj, VirtualMachineInstanceSpec
from polyvisor.api.shapes import Shape, members
from polyvisor.drivers.base import Driver
from polyvisor.drivers.features import Feature
from polyvisor.drivers.verdict import unsupported

MOST = 40
DISKS, INTERFACES = ("domain", "devices", "disks"), ("domain", "devices", "interfaces")
PARTNERS: dict[tuple[str | int, ...], tuple[str, ...]] = {
    ("volumes",): DISKS,
    DISKS: ("volumes",),
    ("networks",): INTERFACES,
    INTERFACES: ("networks",),
}
PLACE = "-polyvisor-place"
_PART = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
Keys = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """Leave out ``field``, or give it one of ``values``; or, with ``example``, add it."""

    field: str
    values: tuple[str, ...] = ()
    example: Any = None

    def to_obj(self) -> Obj:
        """Return the change as JSON."""
        if self.example is not None:
            return {"action": "add", "field": self.field, "example": self.example}
        return {"action": "remove", "field": self.field, **({"orSetTo": list(self.values)} if self.values else {})}

    def __str__(self) -> str:
        if self.example is not None:
            more = f"to {self.field.removesuffix('[]')}" if self.field.endswith("[]") else self.field
            return f"add {more}, such as {json.dumps(self.example)}"
        other = f", or set it to {' or '.join(self.values)}" if self.values else ""
        return f"leave out {self.field}{other}"


def smallest(driver: Driver, spec: Obj, path: str, virt_type: str = "") -> tuple[Change, ...] | None:
    """Return changes to ``spec``, which stands at ``path``, after which ``driver`` takes it; None if there are none."""
    working = _placed(spec)
    changes: list[Change] = []
    judge = _Judge(driver, virt_type, _broken(working))
    for _ in range(MOST):
        lacking = judge.lacking(working)
        if not lacking:
            return tuple(changes)
        feature, field = lacking[0]
        keys = _keys(field)
        steps = _added(judge, working, feature, lacking) or _left_out(judge, working, keys, lacking)
        if steps is None:
            return None
        for after, where, example in steps:
            values = () if example is not None or where != keys else _values(keys)
            values = tuple(v for v in values if judge.helps(_with(working, keys, v), lacking))
            place = path + where if isinstance(where, str) else _text(path, working, where)
            changes.append(Change(place, values, example))
            working = after
    return None


Steps = list[tuple[Obj, Keys | str, Any]]
"""One after the other: the spec after it, what is changed (of an addition the path in words), the example."""
Lacking = list[tuple[Feature, str]]


@dataclass(frozen=True, slots=True)
class _Judge:
    """Whether a change helps: the driver lacks less, and no more rules are broken than were."""

    driver: Driver
    virt_type: str
    broken: int

    def lacking(self, spec: Obj) -> Lacking | None:
        try:
            parsed = VirtualMachineInstanceSpec.model_validate(spec)
        except ValidationError:
            return None
        return [(feature, field) for feature, field, _ in unsupported(self.driver, parsed, self.virt_type or None)]

    def helps(self, spec: Obj, before: Lacking) -> bool:
        after = self.lacking(spec)
        return after is not None and len(after) < len(before) and _broken(spec) <= self.broken


def _added(judge: _Judge, spec: Obj, feature: Feature, lacking: Lacking) -> Steps | None:
    """Add what the feature wants given, in the first way that helps."""
    if feature.remedy is None:
        return None
    field, examples = feature.remedy
    keys = _keys(field)
    if field.endswith("[]"):  # an item more, by a name that is free
        held = spec.get(str(keys[0])) or []
        taken, keys = {item.get("name") for item in held}, (*keys, len(held))
        examples = [{**each, "name": next(n for n in _names(each["name"]) if n not in taken)} for each in examples]
    for example in examples:
        after = _with(spec, keys, example)
        if judge.helps(after, lacking):
            return [(after, field.removeprefix("spec"), example)]
    return None


def _names(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}-{number}" for number in count(2))


def _left_out(judge: _Judge, spec: Obj, keys: Keys, lacking: Lacking) -> Steps | None:
    """Leave out the field, else what it is a part of, smallest first; else put something in its place."""
    parts = [keys[:end] for end in range(len(keys), 0, -1)]
    tried = [(after, part) for part in parts if (after := _without(spec, part)) is not None]
    for after, where in tried:
        if judge.helps(after, lacking):
            return [(after, where, None)]
    before = {feature.id for feature, _ in lacking}
    for after, where in tried:
        for feature, _ in judge.lacking(after) or []:
            more = _added(judge, after, feature, lacking) if feature.id not in before else None
            if more:
                return [(after, where, None), *more]
    return None


def _broken(spec: Obj) -> int:
    """Count the rules that a spec breaks whatever the driver."""
    whole, found = _plain(spec), Findings()
    defaults.instance_spec(whole, {})
    for rules in (hardware, platform, storage, network):
        rules.validate(whole, "spec", found)
    return len(found.problems)


def _keys(field: str) -> Keys:
    found = _PART.findall(field.removeprefix("spec."))
    return tuple(int(number) if number else word for word, number in found)


def _placed(value: Any) -> Any:
    """Copy a value, with every object in a list told its place."""
    if isinstance(value, dict):
        return {key: _placed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [{**_placed(item), PLACE: n} if isinstance(item, dict) else item for n, item in enumerate(value)]
    return value


def _plain(value: Any) -> Any:
    """Copy a value without those marks."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if key != PLACE}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _text(path: str, spec: Any, keys: Keys) -> str:
    for key in keys:
        try:
            spec = spec[key]
        except (KeyError, IndexError, TypeError):
            spec = None
        place = spec.get(PLACE, key) if isinstance(spec, dict) else key
        path += f"[{place}]" if isinstance(key, int) else f".{key}"
    return path


def _values(keys: Keys) -> tuple[str, ...]:
    shape = Shape("object", model=VirtualMachineInstanceSpec)
    for key in keys:
        if isinstance(key, int):
            shape = shape.item or shape
        elif shape.model is not None and key in members(shape.model):
            shape = members(shape.model)[key].shape
        else:
            return ()
    return shape.enum


def _with(spec: Obj, keys: Keys, value: Any) -> Obj:
    changed = copy.deepcopy(spec)
    holder: Any = changed
    last = keys[-1]
    for key, after in pairwise(keys):
        if isinstance(key, str) and holder.get(key) is None:
            holder[key] = [] if isinstance(after, int) else {}
        holder = holder[key]
    if isinstance(last, int) and last == len(holder):
        holder.append(value)
    else:
        holder[last] = value
    return changed


def _without(spec: Obj, keys: Keys) -> Obj | None:
    """Return the spec without a field or list item, a volume or network with its partner; None if it is not there."""
    changed = copy.deepcopy(spec)
    holder: Any = changed
    try:
        for key in keys[:-1]:
            holder = holder[key]
        gone = holder.pop(keys[-1])
    except (KeyError, IndexError, TypeError):
        return None
    name = gone.get("name") if isinstance(gone, dict) and isinstance(keys[-1], int) else None
    partner = PARTNERS.get(keys[:-1])
    if name and partner:
        items: Any = changed
        for key in partner:
            items = items.get(key) if isinstance(items, dict) else None
        if isinstance(items, list):  # a volume may be without a disk of its own
            items[:] = [item for item in items if item.get("name") != name]
    return changed
