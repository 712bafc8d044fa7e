"""The feature catalogue against the table of what is implemented: a feature that can be asked for must be admitted."""

from __future__ import annotations

import pytest

import polyvisor.api
from polyvisor.api.base import wire_name
from polyvisor.api.implemented import INSTEAD, implements
from polyvisor.api.shapes import Shape, members
from polyvisor.drivers.features import FEATURES


def asked() -> list[str]:
    return sorted({pattern for feature in FEATURES for pattern, _ in feature.places})


@pytest.mark.parametrize("pattern", asked())
def test_every_field_of_the_catalogue_is_implemented(pattern: str) -> None:
    model = polyvisor.api.VirtualMachineInstanceSpec
    shape = Shape("object", model=model)
    for part in pattern.replace("[]", "").split("."):
        assert shape.model is not None
        name = wire_name(part)
        assert implements(shape.model.__name__, name), f"{shape.model.__name__}.{name}"
        shape = members(shape.model)[name].shape
        while shape.item is not None:
            shape = shape.item


def test_what_to_write_instead_is_of_fields_that_are_not_implemented() -> None:
    for type_name, field in INSTEAD:
        assert not implements(type_name, field), f"{type_name}.{field} is implemented"
