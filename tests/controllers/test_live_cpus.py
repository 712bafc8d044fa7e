"""What a machine's template makes of its running instance's CPU sockets, and when it asks for a restart."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from polyvisor.api.names import TEMPLATE_ANNOTATION
from polyvisor.controllers import live_cpus, template
from polyvisor.drivers import registry

Obj = dict[str, Any]
QEMU = registry().get("qemu")
LXC = registry().get("lxc")


def machine(sockets: int = 1, **cpu: Any) -> Obj:
    spec = {"domain": {"cpu": {"sockets": sockets, "maxSockets": 4, **cpu}, "devices": {}}}
    return {"metadata": {"name": "m", "generation": 7}, "spec": {"template": {"spec": spec}}}


def made(vm: Obj) -> Obj:
    annotations = {TEMPLATE_ANNOTATION: template.digest(vm)}
    return {"metadata": {"annotations": annotations}, "spec": copy.deepcopy(vm["spec"]["template"]["spec"])}


def step(vm: Obj, vmi: Obj, driver: Any = QEMU) -> Obj | None:
    return live_cpus.step(vm, vmi, driver)


def test_nothing_is_due_of_what_is_the_same() -> None:
    assert not live_cpus.due(machine(), made(machine()))
    assert not template.changed(machine(), made(machine()))


def test_sockets_are_added_and_need_no_restart_then() -> None:
    vmi = made(machine(1))
    assert template.changed(machine(2), vmi)
    new = step(machine(2), vmi)
    assert new is not None
    assert new["spec"]["domain"]["cpu"]["sockets"] == 2
    assert not template.changed(machine(2), new)
    assert not live_cpus.due(machine(2), new)


@pytest.mark.parametrize(
    ("sockets", "said"),
    [
        (5, "CPU sockets updated in template spec to a value higher than what's available"),
        (1, "Reduction of CPU socket count requires a restart"),
    ],
)
def test_more_than_there_is_room_for_and_fewer_wait_for_a_restart(sockets: int, said: str) -> None:
    vmi = made(machine(2))
    assert step(machine(sockets), vmi) is None
    assert template.changed(machine(sockets), vmi)
    assert live_cpus.why_restart(machine(sockets), vmi) == said


@pytest.mark.parametrize("cpu", [{"dedicatedCpuPlacement": True}])
def test_cpus_of_its_own_are_not_added_to(cpu: Obj) -> None:
    assert step(machine(2, **cpu), made(machine(1, **cpu))) is None


def test_a_limit_of_the_pod_is_not_outgrown() -> None:
    vm, grown = machine(1), machine(2)
    for one in (vm, grown):
        one["spec"]["template"]["spec"]["domain"]["resources"] = {"limits": {"cpu": "1"}}
    assert step(grown, made(vm)) is None


def test_a_driver_that_cannot_waits_for_a_restart() -> None:
    assert step(machine(2), made(machine(1)), LXC) is None


def test_without_room_for_more_sockets_are_like_all_else() -> None:
    vm, grown = machine(1), machine(2)
    for one in (vm, grown):
        del one["spec"]["template"]["spec"]["domain"]["cpu"]["maxSockets"]
    vmi = made(vm)
    assert (live_cpus.due(grown, vmi), step(grown, vmi)) == (False, None)
    assert template.changed(grown, vmi)
    assert live_cpus.why_restart(grown, vmi) == ""


def test_another_change_beside_the_sockets_still_wants_a_restart() -> None:
    new = step(machine(2, cores=2), made(machine(1)))
    assert new is not None
    assert new["spec"]["domain"]["cpu"].get("cores") is None
    assert template.changed(machine(2, cores=2), new)


def test_an_instance_of_an_older_release_wants_no_restart_for_nothing() -> None:
    vm = machine(2)
    older = copy.deepcopy(vm)
    spec = older["spec"]["template"]["spec"]
    vmi = made(vm)
    whole = template._spec_digest(vm, template._without_cards(spec))
    metadata = template.digest(vm).split(".")[1]
    vmi["metadata"]["annotations"][TEMPLATE_ANNOTATION] = f"{whole}.{metadata}."
    assert not template.changed(vm, vmi)
    assert template.changed(machine(3), vmi)
    assert not live_cpus.due(machine(3), vmi)
