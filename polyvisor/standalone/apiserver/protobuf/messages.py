"""Kubernetes' messages as a table: each field's number, its name in JSON, and its type.

``messages.tsv`` is written by ``tools/generate_protobuf.py`` from the struct tags of Kubernetes' Go types. It is read
when the first protobuf body or answer passes, which most installations never see.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

Message = dict[int, "Field"]

_PACKAGES = {
    "v1": "core",
    "apps/v1": "apps",
    "authorization.k8s.io/v1": "authorization",
    "coordination.k8s.io/v1": "coordination",
    "events.k8s.io/v1": "events",
    "meta.k8s.io/v1": "meta",
    "storage.k8s.io/v1": "storage",
}
_OF_META = ("DeleteOptions", "Status")
"""Kinds that belong to every version, or to ``v1``, and stand in the package ``meta``."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a message.

    ``name`` is empty where the fields of the inner message stand in the outer JSON object. ``type`` is another message,
    or ``string``, ``bool``, ``int``, ``bytes``, ``time``, ``microtime``, ``quantity``, ``int-or-string`` or ``raw``
    (JSON inside). ``form`` is empty, ``repeated`` or ``map`` (whose keys are strings). ``zero`` says that JSON has an
    empty value too.
    """

    number: int
    name: str
    type: str
    form: str
    zero: bool


@cache
def messages() -> dict[str, Message]:
    """Return message -> its fields by number."""
    found: dict[str, Message] = {}
    text = resources.files(__package__).joinpath("messages.tsv").read_text()
    for row in csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE):
        number = int(row["number"])
        field = Field(number, row["name"], row["type"], row["form"], row["zero"] == "zero")
        found.setdefault(row["message"], {})[number] = field
    return found


@cache
def message_of(api_version: str, kind: str) -> str | None:
    """Return the message of an object's kind, None where the table has none."""
    package = "meta" if kind in _OF_META else _PACKAGES.get(api_version, "")
    name = f"{package}.{kind}"
    return name if name in messages() else None
