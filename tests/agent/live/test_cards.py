"""Which network cards are attached, detached and switched, and what the status tells of it; the launcher is played."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polyvisor.agent.errors import AgentError
from polyvisor.agent.link.connection import LauncherError
from polyvisor.agent.live import cards, status
from polyvisor.agent.live.cards import Outcome, settle
from polyvisor.domain import CardSource
from polyvisor.drivers import registry
from polyvisor.drivers.base import Driver
from polyvisor.drivers.qemu import QemuDriver

from .. import played_links

Obj = dict[str, Any]
FIRST: Obj = {"name": "default", "masquerade": {}}
MORE: Obj = {"name": "more", "bridge": {}}
TOLD: Obj = {"name": "default", "linkState": "up", "mac": "02:00:00:00:00:01", "infoSource": "domain"}


def machine(*found: Obj, told: list[Obj] | None = None, phase: str = "Running") -> Obj:
    networks = [{"name": card["name"], "pod": {}} for card in found]
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": "m", "namespace": "default", "uid": "0f0e0d0c-0000-4000-8000-000000000000"},
        "spec": {"domain": {"memory": {"guest": "64Mi"}, "devices": {"interfaces": list(found)}}, "networks": networks},
        "status": {"phase": phase, "hypervisor": {"virtType": "qemu"}, "interfaces": told or []},
    }


class PlayedLink(played_links.PlayedLink):
    """A launcher whose domain has these cards, each with its link's state."""

    def device(self, name: str, what: str) -> str:
        """Return a card."""
        mac = "<mac address='02:00:00:00:00:01'/>"
        return f"<interface type='user'>{mac}<link state='{what}'/><alias name='ua-nic_{name}'/></interface>"


class Joins:
    """Networks that know some cards and lack others."""

    def __init__(self, *lacks: str) -> None:
        self.lacks = lacks
        self.asked: list[list[str]] = []

    async def __call__(self, vmi: Obj) -> dict[str, CardSource]:
        names = [card["name"] for card in vmi["spec"]["domain"]["devices"]["interfaces"]]
        self.asked.append(names)
        for name in names:
            if name in self.lacks:
                raise AgentError(f"the Pod has no interface for {name}")
        return {name: CardSource(f"tap-{name}", f"b-{name}", "02:00:00:00:00:09", 1500) for name in names}


async def settled(vmi: Obj, link: PlayedLink, join: Joins, home: Path) -> Outcome:
    return await settle(vmi, QemuDriver(), link, home, join)  # type: ignore[arg-type]


def test_it_is_due_only_where_something_differs_and_the_driver_can() -> None:
    qemu = QemuDriver()
    assert not cards.due(machine(FIRST, told=[TOLD, {"interfaceName": "docker0"}]), qemu)
    assert not cards.due(machine(FIRST, phase="Scheduled"), qemu)
    assert cards.due(machine(FIRST, told=[TOLD | {"linkState": "down"}]), qemu)
    assert cards.due(machine(FIRST | {"state": "down"}, told=[TOLD]), qemu)
    assert cards.due(machine(FIRST, MORE, told=[TOLD]), qemu)
    assert cards.due(machine(FIRST | {"state": "absent"}, told=[TOLD]), qemu)
    assert not cards.due(machine(FIRST | {"state": "absent"}), qemu)
    lxc: Driver | None = registry().get("lxc")
    assert lxc
    assert cards.due(machine(FIRST, MORE, told=[TOLD]), lxc)
    other: Driver | None = registry().get("xen")
    assert other
    assert not cards.due(machine(FIRST, MORE, told=[TOLD]), other)


async def test_a_link_is_switched_in_the_domains_own_words(home: Path) -> None:
    link = PlayedLink(default="up")
    outcome = await settled(machine(FIRST | {"state": "down"}), link, Joins(), home)
    ((operation, arguments),) = link.asked
    assert operation == "update"
    assert '<link state="down"/>' in arguments["xml"]
    assert "02:00:00:00:00:01" in arguments["xml"]
    assert outcome.settled
    link.asked, link.fails = [], LauncherError("it cannot")
    outcome = await settled(machine(FIRST | {"state": "down"}), link, Joins(), home)
    assert outcome.troubles == {"default": ("FailedUpdate", "it cannot")}


async def test_a_card_that_lacks_is_joined_and_attached(home: Path) -> None:
    link, join = PlayedLink(default="up"), Joins()
    outcome = await settled(machine(FIRST | {"bootOrder": 1}, MORE | {"bootOrder": 2}), link, join, home)
    ((operation, arguments),) = link.asked
    assert operation == "attach"
    assert 'dev="tap-more"' in arguments["xml"]
    assert "ua-nic_more" in arguments["xml"]
    assert "boot" not in arguments["xml"]
    assert outcome.settled


async def test_one_that_cannot_be_had_is_told_and_holds_up_no_other(home: Path) -> None:
    link, join = PlayedLink(default="up"), Joins("lost")
    vmi = machine(FIRST, {"name": "lost", "bridge": {}}, MORE, told=[TOLD])
    outcome = await settled(vmi, link, join, home)
    assert outcome.troubles == {"lost": ("FailedAttach", "the Pod has no interface for lost")}
    assert join.asked == [["default", "lost"], ["default", "more"]]
    assert [operation for operation, _ in link.asked] == ["attach"]
    there = cards.shown(vmi, outcome)
    read = {"interfaces": [TOLD, TOLD | {"name": "more"}]}
    new = status.running(there, {"state": "running"}, {}, QemuDriver(), read)
    assert [entry["name"] for entry in new["interfaces"]] == ["default", "more"]
    assert cards.due(vmi | {"status": new}, QemuDriver())


async def test_a_card_waits_for_a_node_that_has_its_network(home: Path) -> None:
    async def nothing(_: Obj) -> dict[str, CardSource]:
        return {}

    link = PlayedLink()
    outcome = await settle(machine(MORE), QemuDriver(), link, home, nothing)  # type: ignore[arg-type]
    assert "user mode" in outcome.troubles["more"][1]
    assert link.asked == []
    outcome = await settle(machine(FIRST), QemuDriver(), link, home, nothing)  # type: ignore[arg-type]
    assert 'type="user"' in link.asked[0][1]["xml"]


async def test_one_that_leaves_is_told_until_the_guest_let_go(home: Path) -> None:
    vmi = machine(FIRST, MORE | {"state": "absent"}, told=[TOLD, TOLD | {"name": "more"}])
    link = PlayedLink(default="up", more="up")
    outcome = await settled(vmi, link, Joins(), home)
    assert link.asked == [("detach", {"alias": "ua-nic_more"})]
    new = status.running(cards.shown(vmi, outcome), {"state": "running"}, {}, QemuDriver(), {})
    assert [entry["name"] for entry in new["interfaces"]] == ["default", "more"]
    outcome = await settled(vmi, PlayedLink(default="up"), Joins(), home)
    new = status.running(cards.shown(vmi, outcome), {"state": "running"}, {}, QemuDriver(), {"interfaces": [TOLD]})
    assert [entry["name"] for entry in new["interfaces"]] == ["default"]
    assert not cards.due(vmi | {"status": new}, QemuDriver())


class WithoutAliases(PlayedLink):
    """A launcher whose libvirt keeps no aliases; a card's word is its address."""

    def device(self, name: str, what: str) -> str:
        """Return a card."""
        return f"<interface type='bridge'><mac address='{what}'/></interface>"


async def test_cards_without_aliases_are_known_by_their_addresses(home: Path) -> None:
    chosen = MORE | {"macAddress": "02-AA-00-00-00-07"}
    vmi = machine(FIRST, chosen, told=[TOLD])
    link = WithoutAliases(default="02:00:00:00:00:01", more="02:aa:00:00:00:07")
    assert (await settled(vmi, link, Joins(), home)).settled
    assert link.asked == []
    outcome = await settled(machine(FIRST, chosen | {"state": "absent"}, told=[TOLD]), link, Joins(), home)
    assert outcome.leaving == {"more"}
    ((operation, arguments),) = link.asked
    assert operation == "detach"
    assert 'address="02:aa:00:00:00:07"' in arguments["xml"]


async def test_a_card_whose_address_the_network_chose_is_not_attached_twice(home: Path) -> None:
    link = WithoutAliases(default="02:00:00:00:00:01", more="02:00:00:00:00:09")
    assert (await settled(machine(FIRST, MORE, told=[TOLD]), link, Joins(), home)).settled
    assert link.asked == [], "who attached it was killed before it could be told"
