"""Label and field selectors: text from a query parameter to a predicate over objects.

Field selectors compare a dotted path with a text, for the paths that Kubernetes selects by; any other is refused, since
a selector that was ignored would match everything, and delete it. ``status.phase`` of a fresh object, ``spec.nodeName``
of an unbound Pod and other absent fields compare as the empty text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from polyvisor.api.metadata import label_key_error, label_value_error
from polyvisor.api.resources import EVENTS, NAMESPACES, NODES, PODS, SECRETS, Resource

from .errors import Obj, bad_request

Predicate = Callable[[Obj], bool]
_EVERYWHERE = ("metadata.name", "metadata.namespace")
_SELECTABLE = {
    PODS: (
        *("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork"),
        *("status.phase", "status.podIP", "status.nominatedNodeName"),
    ),
    NODES: ("spec.unschedulable",),
    NAMESPACES: ("status.phase",),
    SECRETS: ("type",),
    EVENTS: (
        *(f"involvedObject.{name}" for name in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion")),
        *("involvedObject.fieldPath", "reason", "reportingComponent", "source", "type"),
    ),
}
"""What objects of a kind can be selected by beside name and namespace: pkg/apis/core/v1/conversion.go of Kubernetes."""
_WRITTEN_ELSEWHERE = {"source": ("source.component", "reportingComponent")}
"""A field whose selector Kubernetes compares with the first of other fields that is set."""
_SET = re.compile(r"^\s*(?P<key>\S+)\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)\s*$")
_PAIR = re.compile(r"^\s*(?P<key>[^\s=!<>]+)\s*(?P<op>==|!=|=|>|<)\s*(?P<value>[^\s=!<>]*)\s*$")


def _always(_: Obj) -> bool:
    return True


def _terms(text: str) -> list[str]:
    """Split at commas outside parentheses."""
    return [term for term in re.split(r",(?![^()]*\))", text) if term.strip()]


def _labels(obj: Obj) -> Obj:
    return obj["metadata"].get("labels") or {}


def _label_term(term: str) -> Predicate:
    if found := _SET.match(term):
        key, values = found["key"], frozenset(value.strip() for value in found["values"].split(","))
        _check_label(key, *values)
        if found["op"] == "in":
            return lambda obj: _labels(obj).get(key) in values
        return lambda obj: _labels(obj).get(key) not in values
    if found := _PAIR.match(term):
        key, op, value = found["key"], found["op"], found["value"]
        if op in "<>":
            return _compare(key, op, value)
        _check_label(key, value)
        if op == "!=":
            return lambda obj: _labels(obj).get(key) != value
        return lambda obj: _labels(obj).get(key) == value
    key = term.strip()
    wanted = not key.startswith("!")
    key = key.lstrip("!").strip()
    _check_label(key)
    return lambda obj: (key in _labels(obj)) is wanted


def _compare(key: str, op: str, value: str) -> Predicate:
    if not re.fullmatch(r"-?\d+", value):
        raise bad_request(f'unable to parse label selector: for "{op}" the value must be an integer, not {value!r}')
    bound = int(value)

    def test(obj: Obj) -> bool:
        found = _labels(obj).get(key, "")
        if not re.fullmatch(r"-?\d+", found):
            return False
        return int(found) > bound if op == ">" else int(found) < bound

    return test


def _check_label(key: str, *values: str) -> None:
    error = label_key_error(key) or next(filter(None, map(label_value_error, values)), None)
    if error:
        raise bad_request(f"unable to parse label selector: {error}")


def label_selector(text: str) -> Predicate:
    """Parse ``a=b,c!=d,e in (f,g),h,!i``."""
    terms = [_label_term(term) for term in _terms(text)]
    return (lambda obj: all(term(obj) for term in terms)) if terms else _always


def field_selector(text: str, resource: Resource) -> Predicate:
    """Parse ``metadata.name=x,status.phase!=Running``; 400 for a field that the kind cannot be selected by."""
    known = (*_EVERYWHERE, *_SELECTABLE.get(resource, ()))
    terms: list[Predicate] = []
    for term in _terms(text):
        found = _PAIR.match(term)
        if not found or found["op"] in "<>":
            raise bad_request(f"invalid selector: {term!r}; can't understand it, write field=value or field!=value")
        if found["key"] not in known:
            message = f"field label not supported: {found['key']}; {resource.plural} are selected by {', '.join(known)}"
            raise bad_request(message)
        terms.append(_field_term(found["key"], found["value"], found["op"] != "!="))
    return (lambda obj: all(term(obj) for term in terms)) if terms else _always


def _field_term(field: str, value: str, wanted: bool) -> Predicate:
    paths = [path.split(".") for path in _WRITTEN_ELSEWHERE.get(field, (field,))]

    def test(obj: Obj) -> bool:
        return (next(filter(None, (_field_text(obj, path) for path in paths)), "") == value) is wanted

    return test


def _field_text(obj: Obj, path: list[str]) -> str:
    found: Any = obj
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    if isinstance(found, bool):
        return str(found).lower()
    return "" if found is None else str(found)


def both(first: Predicate, second: Predicate) -> Predicate:
    """Return the conjunction, without cost where one is always true."""
    if first is _always:
        return second
    if second is _always:
        return first
    return lambda obj: first(obj) and second(obj)
