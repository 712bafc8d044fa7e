"""Each feature that a field can ask for has an example, which asks for it, and beside it for what it declares."""

from __future__ import annotations

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api import VirtualMachineInstance, VirtualMachineInstanceSpec, check
from polyvisor.api.resources import VMIS
from polyvisor.drivers import DriverRegistry, registry
from polyvisor.drivers.features import BY_ID, FEATURES, asked
from polyvisor.testing.examples import IDS, example
from polyvisor.testing.merging import merged
from tests.drivers_for_tests import FakeDriver

ALL = DriverRegistry([FakeDriver("all")])


def test_every_feature_with_a_field_has_an_example() -> None:
    assert set(IDS) == {feature.id for feature in FEATURES if feature.places}


@pytest.mark.parametrize("feature", IDS)
def test_an_example_asks_for_its_feature_and_for_what_it_declares(feature: str) -> None:
    found = example(feature)
    spec = VirtualMachineInstanceSpec.model_validate(found.spec)
    assert BY_ID[feature].paths(spec)
    assert {each.id for each, _ in asked(spec)} == {feature, *found.companions}


@pytest.mark.parametrize("feature", IDS)
def test_an_example_keeps_every_rule(feature: str) -> None:
    obj = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": "example", "namespace": "default"},
        "spec": example(feature).spec,
    }
    assert check(VirtualMachineInstance, obj) == []
    outcome = admit("CREATE", VMIS, obj, None, AdmissionContext({}, ALL))
    assert (outcome.problems, outcome.warnings) == ([], [])
    admitted = VirtualMachineInstanceSpec.model_validate(outcome.obj["spec"])
    assert {each.id for each, _ in asked(admitted)} == {feature, *example(feature).companions}


@pytest.mark.parametrize("name", registry().names())
def test_an_example_for_a_driver_takes_what_the_driver_has(name: str) -> None:
    driver = registry().get(name)
    assert driver
    for feature in IDS:
        found = example(feature, driver)
        spec = VirtualMachineInstanceSpec.model_validate(found.spec)
        assert {each.id for each, _ in asked(spec)} == {feature, *found.companions}


def test_fragments_are_put_together_by_field_and_by_name() -> None:
    one = {"a": {"x": 1}, "list": [{"name": "n", "p": 1}, {"name": "m"}]}
    other = {"a": {"y": 2}, "list": [{"name": "n", "q": 2}, {"name": "o"}], "b": None}
    whole = merged(one, other)
    assert whole == {
        "a": {"x": 1, "y": 2},
        "list": [{"name": "n", "p": 1, "q": 2}, {"name": "m"}, {"name": "o"}],
        "b": None,
    }
    whole["list"][0]["p"] = 3
    assert one["list"][0]["p"] == 1  # type: ignore[index]
