"""What every typed object rests on: the base model, its naming rule, and the way back to plain JSON.

Attributes are snake_case and the wire is camelCase; both are accepted on the way in. Models keep fields that they do
not know (a newer writer's), so parsing is lenient; strictness is :mod:`polyvisor.api.checking`'s business. Building a
validator is put off until a model is first used, which keeps importing the whole API cheap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict

from polyvisor.api._irregular import IRREGULAR

Obj = dict[str, Any]
"""An object as it travels: plain JSON."""


@dataclass(frozen=True, slots=True)
class OneOf:
    """The values that a string field accepts; metadata for the check and the schemas, not for parsing."""

    values: tuple[str, ...]

    def __init__(self, *values: str) -> None:
        object.__setattr__(self, "values", values)


@dataclass(frozen=True, slots=True)
class Format:
    """What a scalar means beyond its JSON type, by the name that OpenAPI has for it."""

    name: str


Int32 = Annotated[int, Format("int32")]
Int64 = Annotated[int, Format("int64")]
Time = Annotated[str, Format("date-time")]
Duration = Annotated[str, Format("duration")]
Quantity = Annotated[str | int | float, Format("quantity")]
IntOrString = Annotated[int | str, Format("int-or-string")]


def wire_name(attribute: str) -> str:
    """Return the camelCase name of a snake_case attribute."""
    irregular = IRREGULAR.get(attribute)
    if irregular:
        return irregular
    head, *rest = attribute.split("_")
    return head + "".join(word.capitalize() for word in rest)


class Model(BaseModel):
    """Base of all typed objects."""

    model_config = ConfigDict(
        alias_generator=wire_name,
        populate_by_name=True,
        extra="allow",
        defer_build=True,
        protected_namespaces=(),
    )


def to_obj(model: BaseModel) -> Obj:
    """Return the JSON object of ``model``: wire names, and nothing for what is unset or None."""
    obj: Obj = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    return obj
