"""What a machine's template makes of its running instance's network cards, and when it asks for a restart."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from polyvisor.api.names import TEMPLATE_ANNOTATION
from polyvisor.controllers import live_cards, template
from polyvisor.drivers import registry
from polyvisor.drivers.base import Driver

Obj = dict[str, Any]
FIRST: Obj = {"name": "default", "masquerade": {}}
MORE: Obj = {"name": "more", "bridge": {}}


def machine(*cards: Obj) -> Obj:
    networks = [{"name": card["name"], "multus": {"networkName": card["name"]}} for card in cards]
    spec = {"domain": {"devices": {"interfaces": list(cards)}}, "networks": networks}
    return {"metadata": {"name": "m", "generation": 7}, "spec": {"template": {"spec": spec}}}


def made(vm: Obj, *told: str) -> Obj:
    """Return the instance that was made from a machine, with its cards' models filled in."""
    spec = copy.deepcopy(vm["spec"]["template"]["spec"])
    for card in spec["domain"]["devices"]["interfaces"]:
        card["model"] = "virtio"
    annotations = {TEMPLATE_ANNOTATION: template.digest(vm)}
    status = {"interfaces": [{"name": name} for name in told]}
    return {"metadata": {"name": "m", "annotations": annotations}, "spec": spec, "status": status}


def driver(name: str) -> Driver:
    found = registry().get(name)
    assert found
    return found


def step(vm: Obj, vmi: Obj, name: str = "qemu") -> Obj | None:
    return live_cards.step(vm, vm["spec"]["template"]["spec"], vmi, driver(name))


def cards(vmi: Obj) -> list[Obj]:
    found: list[Obj] = vmi["spec"]["domain"]["devices"]["interfaces"]
    return found


def test_nothing_is_due_of_what_is_the_same() -> None:
    vm = machine(FIRST, MORE)
    assert not live_cards.due(vm, made(vm))
    assert not live_cards.due(machine(FIRST | {"state": "up"}, MORE), made(vm)), "up is what it is anyway"
    assert not template.changed(vm, made(vm))
    assert step(vm, made(vm)) is None


def test_a_link_is_set_and_asks_for_no_restart() -> None:
    vmi = made(machine(FIRST))
    vm = machine(FIRST | {"state": "down"})
    assert live_cards.due(vm, vmi)
    assert template.changed(vm, vmi)
    new = step(vm, vmi)
    assert new
    assert cards(new) == [FIRST | {"model": "virtio", "state": "down"}]
    assert not template.changed(vm, new)
    assert not live_cards.due(vm, new)
    back = step(machine(FIRST), new)
    assert back
    assert cards(back) == [FIRST | {"model": "virtio"}]


def test_a_card_comes_with_its_network_and_goes() -> None:
    vmi, vm = made(machine(FIRST), "default"), machine(FIRST, MORE)
    new = step(vm, vmi)
    assert new
    assert [card["name"] for card in cards(new)] == [one["name"] for one in new["spec"]["networks"]]
    assert new["spec"]["networks"][1] == {"name": "more", "multus": {"networkName": "more"}}
    assert not template.changed(vm, new)
    leaving = step(machine(FIRST, MORE | {"state": "absent"}), new)
    assert leaving
    assert cards(leaving)[1]["state"] == "absent"
    leaving["status"]["interfaces"].append({"name": "more"})
    assert step(machine(FIRST), leaving) is None, "the guest has it still"
    leaving["status"]["interfaces"].pop()
    gone = step(machine(FIRST), leaving)
    assert gone
    assert [card["name"] for card in cards(gone)] == ["default"]
    assert not template.changed(machine(FIRST), gone)


def test_another_card_takes_the_name_of_one_that_has_left() -> None:
    vm = machine(FIRST, MORE | {"state": "absent"})
    other = machine(FIRST, MORE | {"model": "e1000e"})
    assert step(other, made(vm, "default", "more")) is None
    new = step(other, made(vm, "default"))
    assert new
    assert cards(new)[1] == MORE | {"model": "e1000e"}


@pytest.mark.parametrize(
    "changed",
    [
        [FIRST | {"macAddress": "02:00:00:00:00:01"}, MORE],
        [FIRST],
        [MORE, FIRST],
    ],
)
def test_what_is_fixed_asks_for_a_restart_until_it_is_taken_back(changed: list[Obj]) -> None:
    vmi = made(machine(FIRST, MORE), "default", "more")
    vm = machine(*changed)
    assert step(vm, vmi) is None
    assert template.changed(vm, vmi)
    assert not template.changed(machine(FIRST, MORE), vmi)


def test_what_can_be_done_is_done_although_the_rest_waits() -> None:
    vmi, vm = made(machine(FIRST, MORE)), machine(FIRST | {"model": "e1000"}, MORE | {"state": "down"})
    new = step(vm, vmi)
    assert new
    assert [card.get("state") for card in cards(new)] == [None, "down"]
    assert template.changed(vm, new)
    assert not template.changed(machine(FIRST, MORE | {"state": "down"}), new)


def test_a_driver_that_cannot_leaves_it_to_the_restart() -> None:
    vmi, vm = made(machine(FIRST)), machine(FIRST, MORE)
    assert step(vm, vmi, "xen") is None
    assert template.changed(vm, vmi)


def test_the_last_card_stays_in_the_instance() -> None:
    vmi = made(machine(FIRST | {"state": "absent"}))
    assert step(machine(), vmi) is None


def test_an_instance_of_an_older_release_is_left_alone() -> None:
    vm = machine(FIRST)
    vmi = made(vm)
    older = "f508c6f72134506da9940c692eca3f6a.44136fa355b3678a1146ad16f7e8649e"
    vmi["metadata"]["annotations"][TEMPLATE_ANNOTATION] = older
    assert not template.changed(vm, vmi)
    assert template.observed_generation(vm, vmi) == 7
    assert not live_cards.due(machine(FIRST, MORE), vmi)
    assert template.changed(machine(FIRST, MORE), vmi)
