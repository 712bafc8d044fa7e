"""What an instance's spec may see of change: volumes that come and go, and nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit, hotplug
from polyvisor.admission.values import Findings
from polyvisor.api import Obj
from polyvisor.api.resources import VMIS
from polyvisor.drivers import registry
from tests.admission.conftest import instance
from tests.drivers_for_tests import FakeDriver

CONTEXT = AdmissionContext({}, registry())


def changed(disk: Obj | None = None, volume: Obj | None = None, **more: Any) -> list[str]:
    vmi = instance()
    vmi["spec"]["hypervisor"] = {"driver": "qemu"}
    old = admit("CREATE", VMIS, vmi, None, CONTEXT)
    assert old.problems == []
    new = copy.deepcopy(old.obj)
    source = {"persistentVolumeClaim": {"claimName": "c", "hotpluggable": True}}
    new["spec"]["volumes"].append({"name": "new", **source, **(volume or {})})
    if disk is not None:
        new["spec"]["domain"]["devices"]["disks"].append({"name": "new", **disk})
    new["spec"] |= more
    found = admit("UPDATE", VMIS, new, old.obj, CONTEXT)
    if not found.problems:  # and it may go again
        assert admit("UPDATE", VMIS, copy.deepcopy(old.obj), found.obj, CONTEXT).problems == []
    return [str(problem) for problem in found.problems]


@pytest.mark.parametrize("bus", ["scsi", "virtio"])
def test_a_hotpluggable_volume_may_come_and_go(bus: str) -> None:
    assert changed({"disk": {"bus": bus}}) == []


@pytest.mark.parametrize(
    ("disk", "words"),
    [
        (None, "accepted for a running machine"),
        ({"disk": {"bus": "sata"}}, "accepted for a running machine: scsi, virtio"),
        ({"cdrom": {"bus": "sata"}}, "only a target of kind disk"),
    ],
)
def test_each_needs_a_disk_that_can_come(disk: Obj | None, words: str) -> None:
    problems = changed(disk)
    assert [problem for problem in problems if words in problem], problems


def test_discs_come_and_go_and_drives_stay() -> None:
    vmi = instance()
    vmi["spec"]["hypervisor"] = {"driver": "qemu"}
    disks = vmi["spec"]["domain"]["devices"]["disks"]
    disks.append({"name": "drive", "cdrom": {"bus": "sata"}})
    empty = admit("CREATE", VMIS, vmi, None, CONTEXT)
    assert empty.problems == []
    full = copy.deepcopy(empty.obj)
    disc = {"name": "drive", "persistentVolumeClaim": {"claimName": "c", "hotpluggable": True}}
    full["spec"]["volumes"].append(disc)
    put_in = admit("UPDATE", VMIS, full, empty.obj, CONTEXT)
    assert put_in.problems == []
    assert admit("UPDATE", VMIS, copy.deepcopy(empty.obj), put_in.obj, CONTEXT).problems == []
    without = copy.deepcopy(empty.obj)
    without["spec"]["domain"]["devices"]["disks"].pop()
    problems = admit("UPDATE", VMIS, without, put_in.obj, CONTEXT).problems
    assert "an instance cannot be changed" in problems[0].message


def test_nothing_else_may_change() -> None:
    fixed = {"persistentVolumeClaim": {"claimName": "c"}}
    for problems in (
        changed({"disk": {"bus": "scsi"}}, fixed),
        changed({"disk": {"bus": "scsi"}}, hostname="other"),
    ):
        assert "an instance cannot be changed" in problems[0]


def test_how_long_the_end_may_take_can_change() -> None:
    old = admit("CREATE", VMIS, instance(), None, CONTEXT).obj
    new = copy.deepcopy(old)
    new["spec"]["terminationGracePeriodSeconds"] = 0
    assert admit("UPDATE", VMIS, new, old, CONTEXT).problems == []
    new["spec"]["terminationGracePeriodSeconds"] = -1
    assert admit("UPDATE", VMIS, new, old, CONTEXT).problems != []


def test_a_driver_that_cannot_refuses_such_volumes() -> None:
    vmi = instance()
    vmi["spec"]["hypervisor"] = {"driver": "lxc"}
    source = {"persistentVolumeClaim": {"claimName": "c", "hotpluggable": True}}
    vmi["spec"]["volumes"].append({"name": "new", **source})
    problems = admit("CREATE", VMIS, vmi, None, CONTEXT).problems
    assert "lifecycle.hotplug.disk" in {problem.feature for problem in problems}


def recarded(*cards: Obj, driver: str = "qemu", before: list[Obj] | None = None) -> list[str]:
    """Give an instance that runs other cards than it had, and return what is said of it."""
    first = {"name": "default", "masquerade": {}}
    vmi = instance()
    vmi["spec"]["hypervisor"] = {"driver": "qemu"}
    vmi["spec"]["domain"]["devices"]["interfaces"] = before or [first]
    vmi["spec"]["networks"] = [network(card["name"]) for card in before or [first]]
    old = admit("CREATE", VMIS, vmi, None, CONTEXT)
    assert old.problems == []
    old.obj["status"]["hypervisor"] = {"driver": driver}
    new = copy.deepcopy(old.obj)
    new["spec"]["domain"]["devices"]["interfaces"] = list(cards)
    new["spec"]["networks"] = [network(card["name"]) for card in cards]
    return [str(problem) for problem in admit("UPDATE", VMIS, new, old.obj, CONTEXT).problems]


def network(name: str) -> Obj:
    return {"name": name, "pod": {}} if name == "default" else {"name": name, "multus": {"networkName": "more"}}


FIRST, MORE = {"name": "default", "masquerade": {}}, {"name": "more", "bridge": {}}


@pytest.mark.parametrize(
    "cards",
    [
        [FIRST | {"state": "down"}],
        [FIRST | {"state": "absent"}],
        [FIRST, MORE],
    ],
)
def test_cards_come_leave_and_have_their_link_set(cards: list[Obj]) -> None:
    assert recarded(*cards) == []


def test_a_card_that_was_let_go_may_be_forgotten() -> None:
    assert recarded(FIRST, before=[FIRST, MORE | {"state": "absent"}]) == []


@pytest.mark.parametrize(
    "cards",
    [
        [FIRST | {"model": "e1000"}],
        [MORE],
        [MORE, FIRST],
        [FIRST, MORE | {"macAddress": "02:00:00:00:00:01"}],
    ],
)
def test_what_is_fixed_of_a_card_stays(cards: list[Obj]) -> None:
    (problem,) = recarded(*cards, before=[FIRST, MORE])
    assert "an instance cannot be changed" in problem


def test_the_driver_that_runs_it_is_asked() -> None:
    (problem,) = recarded(FIRST, MORE, driver="xen")
    assert problem.startswith("spec.domain.devices.interfaces[1]")
    assert "Attach and detach network interfaces while running with Xen" in problem
    (problem,) = recarded(FIRST | {"state": "down"}, driver="lxc")
    assert "Set a network interface's link up or down while running with LXC" in problem


@pytest.mark.parametrize("bus", ["sata", "scsi"])
def test_a_driver_says_itself_on_which_buses_disks_come(bus: str) -> None:
    words = [] if bus == "sata" else ["found 'scsi', accepted for a running machine: sata"]
    driver = FakeDriver("alpha")
    driver.hotplug_buses = ("sata",)
    old = {"volumes": [], "domain": {"devices": {"disks": []}}}
    volume = {"name": "new", "persistentVolumeClaim": {"claimName": "c", "hotpluggable": True}}
    new = {"volumes": [volume], "domain": {"devices": {"disks": [{"name": "new", "disk": {"bus": bus}}]}}}
    for running in (driver, None):
        found = Findings()
        hotplug.validate(new, old, running, "spec", found, [driver])
        assert [problem.message for problem in found.problems] == words


@pytest.mark.parametrize(
    ("sockets", "driver", "said"),
    [
        (3, "qemu", ""),
        (1, "qemu", "found 1; 2 to 4 are accepted while the machine runs"),
        (5, "qemu", "found 5; 2 to 4 are accepted while the machine runs"),
        (3, "lxc", "Change the number of CPUs while running with LXC"),
    ],
)
def test_sockets_are_added_where_there_is_room_and_the_driver_can(sockets: int, driver: str, said: str) -> None:
    old: Obj = {"domain": {"cpu": {"sockets": 2, "maxSockets": 4}}}
    new: Obj = {"domain": {"cpu": {"sockets": sockets, "maxSockets": 4}}}
    found = Findings()
    assert hotplug.may_change(new, old)
    hotplug.validate(new, old, registry().get(driver), "spec", found, registry())
    assert [said in problem.message for problem in found.problems] == ([True] if said else [])
    assert [problem.field for problem in found.problems] == (["spec.domain.cpu.sockets"] if said else [])


def test_sockets_without_room_for_more_are_fixed() -> None:
    old: Obj = {"domain": {"cpu": {"sockets": 2}}}
    assert not hotplug.may_change({"domain": {"cpu": {"sockets": 3}}}, old)
    room: Obj = {"domain": {"cpu": {"sockets": 2, "maxSockets": 4}}}
    assert not hotplug.may_change({"domain": {"cpu": {"sockets": 2, "maxSockets": 8}}}, room)
