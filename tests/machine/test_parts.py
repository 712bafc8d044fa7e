"""What a spec says of memory, disks, interfaces and the choice of a hypervisor."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from polyvisor.api.quantity import QuantityError
from polyvisor.machine import Choice, Disk, Interface, Machine, Memory

MIB = 1024 * 1024


def machine(domain: dict[str, Any] | None = None, **more: Any) -> Machine:
    return Machine.read({"domain": {"devices": {}, **(domain or {})}, **more})


@pytest.mark.parametrize(
    ("domain", "expected", "pages"),
    [
        ({}, Memory(0), 0),
        ({"memory": {"guest": "64Mi"}, "resources": {"requests": {"memory": "1Gi"}}}, Memory(64 * MIB), 0),
        ({"resources": {"requests": {"memory": "64Mi"}, "limits": {"memory": "1Gi"}}}, Memory(64 * MIB), 0),
        ({"resources": {"limits": {"memory": "64Mi"}}}, Memory(64 * MIB), 0),
        ({"memory": {"guest": "64Mi", "hugepages": {"pageSize": "2Mi"}}}, Memory(64 * MIB, 2 * MIB), 32),
        ({"memory": {"guest": 1, "reservedOverhead": {"addedOverhead": "1Mi"}}}, Memory(1, 0, MIB), 0),
    ],
)
def test_memory(domain: dict[str, Any], expected: Memory, pages: int) -> None:
    found = machine(domain).memory
    assert (found, found.pages) == (expected, pages)


def test_disks_are_on_the_bus_that_is_named_or_the_usual_one() -> None:
    disks = [
        {"name": "a"},
        {"name": "b", "disk": {"bus": "sata", "readonly": True}},
        {"name": "c", "cdrom": {}},
        {"name": "d", "lun": {"bus": "virtio"}},
    ]
    assert machine({"devices": {"disks": disks}}).disks == (
        Disk("a", "disk", "virtio", False, False),
        Disk("b", "disk", "sata", True, True),
        Disk("c", "cdrom", "sata", False, True),
        Disk("d", "lun", "virtio", True, False),
    )


def test_interfaces_have_their_place_and_addresses_in_one_form() -> None:
    given = [
        {"name": "a", "macAddress": "DE-AD-00-00-BE-EF", "pciAddress": "0000:0A:00.0"},
        {"name": "b", "state": "absent"},
    ]
    field = "spec.domain.devices.interfaces"
    assert machine({"devices": {"interfaces": given}}).interfaces == (
        Interface("a", f"{field}[0]", True, "de:ad:00:00:be:ef", "0000:0a:00.0"),
        Interface("b", f"{field}[1]", False),
    )


def test_the_choice_of_a_hypervisor() -> None:
    assert machine().choice == Choice()
    assert machine(hypervisor={"driver": "alpha", "virtType": "fast"}).choice == Choice(("alpha",), "fast")
    assert machine(hypervisor={"anyOf": ["beta", "alpha", "beta"]}).choice == Choice(("beta", "alpha"))


def test_a_machine_does_not_change_and_a_broken_quantity_is_an_error() -> None:
    with pytest.raises(FrozenInstanceError):
        machine().memory.guest = 1  # type: ignore[misc]
    with pytest.raises(QuantityError):
        machine({"memory": {"guest": "much"}})
