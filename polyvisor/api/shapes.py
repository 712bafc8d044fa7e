"""The models seen as data: for each class its fields by wire name, with kind, format, values and item type.

The strict check, the CRD manifests and the OpenAPI documents all read this one view, so that they cannot disagree with
the models. It is worked out once per class, from the annotations, without building pydantic's validators.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from polyvisor.api.base import Format, Model, OneOf

Kind = Literal["string", "boolean", "integer", "number", "quantity", "int-or-string", "any", "object", "list", "map"]

_SCALARS: dict[Any, Kind] = {str: "string", bool: "boolean", int: "integer", float: "number", Any: "any"}


@dataclass(frozen=True, slots=True)
class Shape:
    """What a value must look like. ``model`` is set for objects, ``item`` for lists and maps."""

    kind: Kind
    format: str = ""
    enum: tuple[str, ...] = ()
    model: type[Model] | None = None
    item: Shape | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """One field of a model."""

    name: str
    shape: Shape
    required: bool
    description: str = ""


@cache
def members(model: type[Model]) -> Mapping[str, Member]:
    """Return the fields of ``model`` by wire name, in the order of the table."""
    found = {}
    for info in model.model_fields.values():
        name = str(info.serialization_alias)
        found[name] = Member(name, _shape(info.annotation, info.metadata), info.is_required())
    return found


def _shape(annotation: Any, metadata: list[Any]) -> Shape:
    formats = [m.name for m in metadata if isinstance(m, Format)]
    enum = next((m.values for m in metadata if isinstance(m, OneOf)), ())
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        return _shape(inner, [*more, *metadata])
    if formats and formats[0] in ("quantity", "int-or-string"):
        return Shape("quantity" if formats[0] == "quantity" else "int-or-string")
    if origin in (Union, UnionType):
        (inner,) = [a for a in get_args(annotation) if a is not NoneType]
        return _shape(inner, metadata)
    if origin is list:
        return Shape("list", item=_shape(get_args(annotation)[0], []))
    if origin is dict:
        return Shape("map", item=_shape(get_args(annotation)[1], []))
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return Shape("object", model=annotation)
    return Shape(_SCALARS[annotation], formats[0] if formats else "", enum)
