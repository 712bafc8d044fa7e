"""Problems found in an object, as values: where, what was found, what would be right.

A check returns a list of problems and never raises on the first, so that a user repairs a manifest in one round.
The API server turns the list into the causes of a Kubernetes ``Status``; the command line prints it line by line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Reason = Literal[
    "FieldValueRequired",
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
