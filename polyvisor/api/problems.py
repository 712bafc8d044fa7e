"""Problems found in an object, as values: where, what was found, what would be right.

A check returns a list of problems and never raises on the first, so that a user repairs a manifest in one round.
The API server turns the list into the causes of a Kubernetes ``Status``; the command line prints it line by line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Reason = Literal[
    "FieldValueRequired",
    "FieldValueNotFound",
    "FieldValueInvalid",
    "FieldValueNotSupported",
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueUnknown",
]
"""The cause types of Kubernetes (``metav1.CauseType``), plus ``FieldValueUnknown`` for a field nobody knows."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong with an object.

    ``field`` is the path as Kubernetes writes it (``spec.domain.devices.disks[0].name``), or empty for the whole
    object. ``message`` is a sentence that says what was found and what would be accepted. ``feature`` names the entry
    of the feature catalogue that is concerned, if one is.
    """

    field: str
    message: str
    reason: Reason = "FieldValueInvalid"
    feature: str = ""

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word closest to ``word`` (case is ignored), or an empty string if none is near."""
    by_lower = {k.lower(): k for k in known}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else ""


def invalid_status(kind: str, group: str, name: str, problems: Sequence[Problem]) -> dict[str, Any]:
    """Return the ``Status`` that refuses an object, as Kubernetes has it: 422, each problem one of its causes."""
    texts = [str(problem) for problem in problems]
    listed = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    details: dict[str, Any] = {key: value for key, value in (("name", name), ("group", group), ("kind", kind)) if value}
    details["causes"] = [{"reason": p.reason, "message": p.message, "field": p.field} for p in problems]
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f'{f"{kind}.{group}" if group else kind} "{name}" is invalid: {listed}',
        "reason": "Invalid",
        "details": details,
        "code": 422,
    }
