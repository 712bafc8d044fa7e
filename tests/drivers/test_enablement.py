"""Which drivers are enabled: one answer for admission, which lets a machine in, and placement, which finds its node."""

from __future__ import annotations

import pytest

from polyvisor.admission import hypervisor
from polyvisor.api import KubeVirtConfiguration, Obj, VirtualMachineInstanceSpec
from polyvisor.api.names import CandidateVerdict
from polyvisor.drivers import DriverRegistry
from polyvisor.placement import place
from tests.drivers_for_tests import FakeDriver

DRIVERS = DriverRegistry([FakeDriver("alpha"), FakeDriver("beta"), FakeDriver("gamma")])
SPEC = VirtualMachineInstanceSpec.model_validate({"domain": {"devices": {}}})


def placed(configuration: Obj) -> list[str]:
    found = place(SPEC, KubeVirtConfiguration.model_validate(configuration), [], DRIVERS)
    return [one.driver for one in found.candidates if one.verdict is not CandidateVerdict.NOT_ENABLED]


@pytest.mark.parametrize(
    ("configuration", "names"),
    [
        ({}, ["alpha", "beta", "gamma"]),
        ({"hypervisors": []}, ["alpha", "beta", "gamma"]),
        ({"hypervisors": [{"name": "beta"}]}, ["beta"]),
        ({"hypervisors": [{"name": "gamma"}, {"name": "alpha"}, {"name": "gamma"}]}, ["gamma", "alpha"]),
        ({"hypervisors": [{"name": "nobody"}]}, []),
    ],
)
def test_admission_and_placement_enable_the_same(configuration: Obj, names: list[str]) -> None:
    assert [driver.name for driver in hypervisor.enabled(configuration, DRIVERS)] == names
    assert placed(configuration) == names
