"""Label selectors as they stand in objects (``matchLabels``, ``matchExpressions``): what they match, and as text.

An absent selector matches nothing and an empty one everything, as in Kubernetes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polyvisor.api.base import Obj
from polyvisor.api.metadata import label_key_error, label_value_error
from polyvisor.api.problems import Problem

OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def matches(selector: Obj | None, labels: Mapping[str, Any] | None) -> bool:
    """Whether an object with these labels is selected."""
    if selector is None:
        return False
    there = labels or {}
    if any(there.get(key) != value for key, value in _labels(selector).items()):
        return False
    return all(_holds(one, there) for one in _expressions(selector))


def _labels(selector: Obj | None) -> Obj:
    """Return ``matchLabels``; what is no map is refused elsewhere and counts as absent here."""
    found = (selector or {}).get("matchLabels")
    return found if isinstance(found, dict) else {}


def _expressions(selector: Obj | None) -> list[Obj]:
    found = (selector or {}).get("matchExpressions")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _values(requirement: Obj) -> list[str]:
    found = requirement.get("values")
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def _holds(requirement: Obj, labels: Mapping[str, Any]) -> bool:
    key, values = str(requirement.get("key")), _values(requirement)
    match requirement.get("operator"):
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return key not in labels or labels[key] not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return False


def to_text(selector: Obj | None) -> str:
    """Return the selector as a query parameter has it, and as an autoscaler reads it."""
    terms = [f"{key}={value}" for key, value in sorted(_labels(selector).items(), key=str)]
    for one in _expressions(selector):
        key, values = one.get("key"), ",".join(sorted(_values(one)))
        match one.get("operator"):
            case "In":
                terms.append(f"{key} in ({values})")
            case "NotIn":
                terms.append(f"{key} notin ({values})")
            case "Exists":
                terms.append(f"{key}")
            case "DoesNotExist":
                terms.append(f"!{key}")
    return ",".join(terms)


def problems(selector: Any, path: str) -> list[Problem]:
    """Return what is wrong with a selector beyond its types, which the strict check reports."""
    found: list[Problem] = []
    if not isinstance(selector, dict):
        return found
    labels = selector.get("matchLabels")
    for key, value in labels.items() if isinstance(labels, dict) else ():
        error = label_key_error(str(key)) or (label_value_error(value) if isinstance(value, str) else "")
        if error:
            found.append(Problem(f"{path}.matchLabels[{str(key)[:80]}]", error))
    listed = selector.get("matchExpressions")
    for at, one in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(one, dict):
            found += _requirement(one, f"{path}.matchExpressions[{at}]")
    return found


def _requirement(one: Obj, path: str) -> list[Problem]:
    found = []
    key, operator, values = one.get("key"), one.get("operator"), one.get("values") or []
    if isinstance(key, str) and (error := label_key_error(key)):
        found.append(Problem(f"{path}.key", error))
    if operator in ("In", "NotIn") and not values:
        found.append(Problem(f"{path}.values", f"required with operator {operator}", "FieldValueRequired"))
    elif operator in ("Exists", "DoesNotExist") and values:
        found.append(Problem(f"{path}.values", f"operator {operator} takes none", "FieldValueForbidden"))
    for at, value in enumerate(values if isinstance(values, list) else ()):
        if isinstance(value, str) and (error := label_value_error(value)):
            found.append(Problem(f"{path}.values[{at}]", error))
    return found
