"""How many virtual CPUs a spec says, and that every part that counts them says the same."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.agent.network import plan
from polyvisor.api import VirtualMachineInstanceSpec
from polyvisor.controllers.launcher_resources import resources_of
from polyvisor.domain import DomainContext
from polyvisor.drivers import registry
from polyvisor.drivers.features import asked
from polyvisor.machine import Vcpus
from tests.drivers.schema import rendered
from tests.drivers_for_tests import FakeDriver

Obj = dict[str, Any]
CPU, RESOURCES = "spec.domain.cpu", "spec.domain.resources"
REQUESTED = {"resources": {"requests": {"cpu": "8"}}}
SHAPED = {"cpu": {"cores": 8}}


def spec_of(domain: Obj) -> VirtualMachineInstanceSpec:
    plain = {"domain": {"devices": {}, "memory": {"guest": "64Mi"}, **domain}}
    return VirtualMachineInstanceSpec.model_validate(plain)


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ({}, Vcpus(1, 1)),
        ({"cpu": {"model": "Nehalem"}}, Vcpus(1, 1)),
        (SHAPED, Vcpus(8, 8, field=f"{CPU}.cores")),
        ({"cpu": {"sockets": 2, "cores": 3, "threads": 2}}, Vcpus(12, 12, field=f"{CPU}.cores")),
        (REQUESTED, Vcpus(8, 8, field=f"{RESOURCES}.requests[cpu]")),
        ({"resources": {"limits": {"cpu": 4}, "requests": {"cpu": 2}}}, Vcpus(4, 4, field=f"{RESOURCES}.limits[cpu]")),
        ({"resources": {"requests": {"cpu": "1500m"}}}, Vcpus(2, 2, field=f"{RESOURCES}.requests[cpu]")),
        ({"resources": {"requests": {"cpu": "0"}}}, Vcpus(1, 1, field=f"{RESOURCES}.requests[cpu]")),
        ({**SHAPED, **REQUESTED, "cpu": {"cores": 2}}, Vcpus(2, 2, field=f"{CPU}.cores")),
        ({"cpu": {"cores": 2, "maxSockets": 4}}, Vcpus(2, 8, field=f"{CPU}.maxSockets")),
        ({"cpu": {"sockets": 4, "maxSockets": 4}}, Vcpus(4, 4, field=f"{CPU}.sockets")),
        ({"cpu": {"maxSockets": 4}, **REQUESTED}, Vcpus(8, 8, field=f"{RESOURCES}.requests[cpu]")),
        ({"cpu": {"cores": 2, "dedicatedCpuPlacement": True}}, Vcpus(2, 2, 2, f"{CPU}.cores")),
        (
            {"cpu": {"cores": 2, "dedicatedCpuPlacement": True, "isolateEmulatorThread": True}},
            Vcpus(2, 2, 3, f"{CPU}.cores"),
        ),
    ],
)
def test_what_a_spec_says(domain: Obj, expected: Vcpus) -> None:
    assert Vcpus.of(spec_of(domain).domain) == expected
    assert Vcpus.read(domain) == expected


@pytest.mark.parametrize("name", registry().names())
def test_memory_beside_the_guest_does_not_depend_on_which_field_says_the_cpus(name: str) -> None:
    driver = registry().get(name)
    assert driver is not None
    assert driver.overhead_bytes(spec_of(REQUESTED)) == driver.overhead_bytes(spec_of(SHAPED))


def test_a_limit_that_is_set_for_the_launcher_is_as_much_as_the_guest_has() -> None:
    found = resources_of(FakeDriver("alpha"), spec_of(REQUESTED), {}, cpu_limit=True)
    assert found["requests"]["cpu"] == found["limits"]["cpu"] == "8"


def test_requested_cpus_without_an_apic_are_refused_as_shaped_ones_are() -> None:
    off = {"features": {"apic": {"enabled": False}}}
    for domain in (REQUESTED, SHAPED):
        ids = [feature.id for feature, _ in asked(spec_of({**domain, **off}))]
        assert "rule.cpus.apic" in ids


def test_an_interface_has_a_queue_for_each_requested_cpu() -> None:
    for domain in (REQUESTED, SHAPED):
        vmi = {"spec": {"domain": {"devices": {"networkInterfaceMultiqueue": True}, **domain}}}
        assert plan._queues(vmi, {"name": "default"}) == 8


def test_there_is_room_for_all_requested_cpus() -> None:
    driver = registry().get("qemu")
    assert driver is not None
    domain = rendered(driver, DomainContext("kvm"), {**REQUESTED, "cpu": {"maxSockets": 4}})
    vcpu = domain.find("vcpu")
    assert vcpu is not None
    assert (vcpu.text, vcpu.get("current")) == ("8", None)
