"""What a task is about, for its log lines: the controller that works, and the object that it works on.

A line is written in many places, far from where the object is known. So the object is kept in a variable of the task
(:mod:`contextvars`), and the formatter of the log adds it to every line.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polyvisor.api import Obj

_NOTHING: Mapping[str, str] = MappingProxyType({})
_FIELDS: ContextVar[Mapping[str, str]] = ContextVar("about", default=_NOTHING)


def fields() -> Mapping[str, str]:
    """Return what this task is about, by field of a log line."""
    return _FIELDS.get()


def work_on(controller: str, key: Hashable) -> None:
    """Say that from now on this task works on a key of a controller's queue."""
    found = {"controller": controller}
    match key:
        case (str(namespace), str(name)):
            found |= {"namespace": namespace, "name": name} if namespace else {"name": name}
        case _:
            found["key"] = str(key)
    _FIELDS.set(found)


def work_with(obj: Obj) -> None:
    """Say which object the key stands for now."""
    metadata = obj["metadata"]
    found = {"kind": obj.get("kind"), "uid": metadata.get("uid"), "name": metadata.get("name")}
    found |= {"namespace": metadata.get("namespace")}
    _FIELDS.set({**_FIELDS.get(), **{key: str(value) for key, value in found.items() if value}})
