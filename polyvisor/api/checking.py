"""The strict check of an object against its model: everything wrong with it, at once, each with its place.

Parsing with a model is lenient on purpose (objects of newer writers must survive); this is the other half, for what a
user hands in. A KubeVirt field that Polyvisor does not implement is told apart from one that nobody knows. ``status``
is left alone: its writers are our own, and older and newer releases write different things.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from polyvisor.api.base import Model
from polyvisor.api.implemented import INSTEAD, NEVER, implements
from polyvisor.api.metadata import MAX_SUBDOMAIN, check_metadata, check_name
from polyvisor.api.problems import Problem, nearest
from polyvisor.api.quantity import QuantityError, parse_quantity
from polyvisor.api.resources import RESOURCES
from polyvisor.api.shapes import Member, Shape, members

MAX_PROBLEMS = 100
MAX_ITEMS = 1024
MAX_STRING = 64 * 1024
_RANGES = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
_OURS = (".hypervisor", ".endpoint")
"""Modules of Polyvisor's own types."""
_MACHINES = frozenset({"VirtualMachine", "VirtualMachineInstance"})
_ON_BY_DEFAULT = frozenset({"enabled", "present", "secureBoot"})
_API_VERSIONS = {r.kind: r.api_versions for r in RESOURCES}


def check(model: type[Model], obj: Any, idle: list[str] | None = None) -> list[Problem]:
    """Return the problems of ``obj`` as an object of the kind ``model``, at most :data:`MAX_PROBLEMS` of them.

    With ``idle``, a field that is not implemented is no problem: its path is added there.
    """
    if not isinstance(obj, dict):
        return [Problem("", f"an object is wanted, found {_found(obj)}")]
    found = Checker(idle)
    kind = model.__name__
    if kind in _API_VERSIONS:
        found.identity(obj, "kind", (kind,))
        found.identity(obj, "apiVersion", _API_VERSIONS[kind])
    metadata = obj.get("metadata")
    named = [
        *check_metadata(metadata, limit=MAX_SUBDOMAIN),
        *check_name(metadata),
    ]
    for problem in named:
        found.add(problem)
    found.fields(model, {k: v for k, v in obj.items() if k not in ("status", "apiVersion", "kind")}, "")
    return found.problems


def check_spec(model: type[Model], value: Any, path: str) -> list[Problem]:
    """Return the problems of a part of an object that stands at ``path``."""
    found = Checker()
    found.value(Shape("object", model=model), value, path)
    return found.problems


class Checker:
    """Walks one object and collects problems."""

    def __init__(self, idle: list[str] | None = None) -> None:
        self.problems: list[Problem] = []
        self._idle = idle

    def add(self, problem: Problem) -> None:
        """Collect a problem; a hostile object cannot make the list arbitrarily long."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)

    def identity(self, obj: dict[str, Any], name: str, wanted: tuple[str, ...]) -> None:
        """Check ``kind`` or ``apiVersion``; the first of ``wanted`` is the one to write."""
        value = obj.get(name)
        if value is None:
            self.add(Problem(name, f"required; write {name}: {wanted[0]}", "FieldValueRequired"))
        elif value not in wanted:
            self.add(Problem(name, f"found {_found(value)}, wanted {' or '.join(wanted)}", "FieldValueNotSupported"))

    def value(self, shape: Shape, value: Any, path: str) -> None:
        """Check a value of any shape."""
        match shape.kind:
            case "string":
                self._string(shape, value, path)
            case "boolean":
                if not isinstance(value, bool):
                    self._wrong_type("true or false", value, path)
            case "integer":
                self._integer(shape, value, path)
            case "number":
                if isinstance(value, bool) or not isinstance(value, int | float):
                    self._wrong_type("a number", value, path)
            case "quantity":
                try:
                    parse_quantity(value)
                except QuantityError as error:
                    self.add(Problem(path, str(error)))
            case "int-or-string":
                if isinstance(value, bool) or not isinstance(value, int | str):
                    self._wrong_type("an integer or a string", value, path)
            case "object":
                assert shape.model is not None
                if isinstance(value, dict):
                    self.fields(shape.model, value, path)
                else:
                    self._wrong_type("an object", value, path)
            case "list":
                self._list(shape, value, path)
            case "map":
                self._map(shape, value, path)

    def fields(self, model: type[Model], value: dict[str, Any], path: str) -> None:
        """Check the fields of an object."""
        known = members(model)
        ours = not model.__module__.startswith("polyvisor.api.kubevirt") or model.__module__.endswith(_OURS)
        for name, item in value.items():
            member = known.get(name)
            where = _join(path, name)
            if member is None:
                self._unknown(model, name, known, where)
            elif item is None:
                continue
            elif not ours and not implements(model.__name__, name):
                if _means_nothing(name, item):
                    continue
                if self._idle is not None:
                    self._idle.append(where)
                else:
                    do = INSTEAD.get((model.__name__, name), "leave it out")
                    message = f"KubeVirt's field {name} is not implemented by Polyvisor yet; {do}"
                    self.add(Problem(where, message, "FieldValueNotSupported"))
            else:
                self.value(member.shape, item, where)
        for member in known.values():
            if member.required and value.get(member.name) is None:
                self.add(Problem(_join(path, member.name), _required(member), "FieldValueRequired"))

    def _unknown(self, model: type[Model], name: Any, known: Iterable[str], path: str) -> None:
        if len(self.problems) >= MAX_PROBLEMS:
            return
        if instead := NEVER.get((model.__name__, name)):
            self.add(Problem(path, f"unknown field: {instead}", "FieldValueUnknown"))
            return
        near = nearest(name, known) if isinstance(name, str) and len(name) < 100 else ""
        hint = f"; did you mean {near}?" if near else f"; known here: {', '.join(sorted(known)) or 'no fields'}"
        self.add(Problem(path, f"unknown field{hint}", "FieldValueUnknown"))

    def _string(self, shape: Shape, value: Any, path: str) -> None:
        if not isinstance(value, str):
            quote = f"; write it in quotes: {str(value).lower()!r}" if isinstance(value, bool | int | float) else ""
            self._wrong_type("a string", value, path, quote)
        elif len(value) > MAX_STRING:
            self.add(Problem(path, f"is {len(value)} characters long; at most {MAX_STRING} are accepted"))
        elif (odd := _UNPRINTABLE.search(value)) is not None:
            self.add(Problem(path, f"contains the character U+{ord(odd[0]):04X}, which no text may contain"))
        elif shape.enum and value and value not in shape.enum:
            near = nearest(value, shape.enum) if len(value) < 100 else ""
            hint = f"; did you mean {near}?" if near else ""
            accepted = ", ".join(shape.enum)
            self.add(Problem(path, f"found {_found(value)}, accepted: {accepted}{hint}", "FieldValueNotSupported"))

    def _integer(self, shape: Shape, value: Any, path: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            self._wrong_type("an integer", value, path)
            return
        low, high = _RANGES.get(shape.format, _RANGES["int64"])
        if not low <= value <= high:
            self.add(Problem(path, f"is out of range; {low} to {high} are accepted"))

    def _list(self, shape: Shape, value: Any, path: str) -> None:
        if not isinstance(value, list):
            self._wrong_type("a list", value, path)
            return
        if len(value) > MAX_ITEMS:
            self.add(Problem(path, f"has {len(value)} items; at most {MAX_ITEMS} are accepted"))
            return
        assert shape.item is not None
        for index, item in enumerate(value):
            if item is None:
                self._wrong_type("a value", item, f"{path}[{index}]")
            else:
                self.value(shape.item, item, f"{path}[{index}]")

    def _map(self, shape: Shape, value: Any, path: str) -> None:
        if not isinstance(value, dict):
            self._wrong_type("an object", value, path)
            return
        if len(value) > MAX_ITEMS:
            self.add(Problem(path, f"has {len(value)} entries; at most {MAX_ITEMS} are accepted"))
            return
        assert shape.item is not None
        for key, item in value.items():
            if not isinstance(key, str):
                self._wrong_type("a string as key", key, path)
            elif item is None:
                self._wrong_type("a value", item, f"{path}[{_short(key)}]")
            else:
                self.value(shape.item, item, f"{path}[{_short(key)}]")

    def _wrong_type(self, wanted: str, value: Any, path: str, hint: str = "") -> None:
        self.add(Problem(path, f"{wanted} is wanted, found {_found(value)}{hint}"))


def _required(member: Member) -> str:
    if member.shape.enum:
        return f"required; one of {', '.join(member.shape.enum)}"
    return "required"


def _means_nothing(name: str, value: Any) -> bool:
    """Return whether a field that is not implemented asks for nothing: off, or empty."""
    if value is False:
        return name not in _ON_BY_DEFAULT and not name.startswith("autoattach")
    return bool(value == "" or value == [])


def _join(path: str, name: Any) -> str:
    return f"{path}.{_short(name)}" if path else _short(name)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _found(value: Any) -> str:
    """Return a short word for what was found; never the whole of something large."""
    match value:
        case None:
            return "nothing"
        case bool():
            return f"the boolean {str(value).lower()}"
        case str():
            return repr(_short(value))
        case int() | float():
            return f"the number {_short(value)}" if abs(value) < 10**60 else "a huge number"
        case list():
            return "a list"
        case dict():
            return "an object"
    return f"a {type(value).__name__}"
