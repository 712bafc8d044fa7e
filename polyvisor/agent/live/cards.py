"""Network cards that come, go and change their link while a machine runs.

Level-triggered, like disks (:mod:`.hotplug`): the domain's own XML says what is there, the spec what is wanted. A card
of ours that the spec does not want is detached, which the guest has to agree to; one that lacks is joined to its
network and attached; one whose link is not as wanted is told so. What isn't obvious: cards that cannot be had yet are
kept out of all that the status tells, so that they hold up nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from polyvisor.agent.errors import AgentError
from polyvisor.agent.identity import domain_uuid
from polyvisor.agent.link.connection import LauncherError, LauncherGone, Link
from polyvisor.agent.live import described, render
from polyvisor.agent.live.status import MAX_INTERFACES
from polyvisor.agent.network.plan import stable_mac, wanted
from polyvisor.api import Obj
from polyvisor.api.names import ABSENT, Phase
from polyvisor.api.reading import nested, read_status
from polyvisor.domain import CardSource
from polyvisor.drivers.base import Driver
from polyvisor.drivers.verdict import supports

INTERFACE = "lifecycle.hotplug.interface"
Join = Callable[[Obj], Awaitable[dict[str, CardSource]]]
"""Joins a machine's cards to their networks, and returns what each is joined to."""


@dataclass
class Outcome:
    """What became of a machine's cards: trouble by name, those that lack still, and those that are leaving."""

    troubles: dict[str, tuple[str, str]] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    leaving: set[str] = field(default_factory=set)

    @property
    def settled(self) -> bool:
        """Whether there is nothing left to do."""
        return not (self.troubles or self.missing or self.leaving)


def due(vmi: Obj, driver: Driver) -> bool:
    """Whether a running machine's cards may differ from what its spec wants, where its driver can change them."""
    status = vmi.get("status") or {}
    if not supports(driver, INTERFACE) or status.get("phase") != Phase.RUNNING:
        return False
    spec = {card["name"]: card for card, _ in list(wanted(vmi))[:MAX_INTERFACES]}
    told = {entry["name"]: entry.get("linkState") for entry in status.get("interfaces") or [] if entry.get("name")}
    return told != {name: described.link_state(card) for name, card in spec.items()}


def shown(vmi: Obj, outcome: Outcome | None) -> Obj:
    """Return the machine with the cards that its domain has: those that lack still left out, those that leave kept."""
    missing: Collection[str] = outcome.missing if outcome else ()
    leaving: Collection[str] = outcome.leaving if outcome else ()

    def there(card: Obj) -> bool:
        return card["name"] not in missing and (card.get("state") != ABSENT or card["name"] in leaving)

    domain = vmi["spec"].get("domain") or {}
    devices = domain.get("devices") or {}
    found = [{**card, "state": ""} if card["name"] in leaving else card for card in devices.get("interfaces") or []]
    kept = [card for card in found if there(card)]
    return {**vmi, "spec": {**vmi["spec"], "domain": {**domain, "devices": {**devices, "interfaces": kept}}}}


def known(vmi: Obj) -> dict[str, str]:
    """Return the names of a machine's cards by their MAC addresses: as they were chosen, or told of before."""
    uuid = domain_uuid(vmi)
    devices = nested(vmi["spec"], "domain").get("devices") or {}
    chosen = [
        (card, card.get("macAddress") or stable_mac(uuid, card["name"])) for card in devices.get("interfaces") or []
    ]
    told = [(entry, entry.get("mac")) for entry in read_status(vmi).get("interfaces") or []]
    return {
        str(mac).replace("-", ":").lower(): str(card["name"])
        for card, mac in (*chosen, *told)
        if mac and card.get("name")
    }


def _has_place(vmi: Obj, name: str, sources: Mapping[str, CardSource]) -> None:
    """Refuse a card that a hypervisor's own network in user mode would have to serve, and cannot."""
    card = next(card for card, _ in wanted(vmi) if card["name"] == name)
    if name not in sources and card.get("masquerade") is None:
        raise AgentError(
            "the machine runs in user mode, where a card takes masquerade: {} on the Pod's network alone; for others "
            "the node needs networks of its own, and the machine a restart on it"
        )


async def settle(vmi: Obj, driver: Driver, link: Link, folder: Path, join: Join) -> Outcome:
    """Take the next step with each card that is not as the spec wants it."""
    outcome = Outcome()
    xml = str((await link.request("describe")).get("xml"))
    have = described.cards(xml, known(vmi))
    there = described.macs(xml)
    spec = {card["name"]: card for card, _ in wanted(vmi)}
    for name, element in have.items():
        if name not in spec:
            outcome.leaving.add(name)
            alias = described.alias_of(element)
            if alias:
                await link.request("detach", alias=alias)
            else:
                await link.request("detach", xml=described.text(element))
        elif described.element_state(element) != described.link_state(spec[name]):
            try:
                await link.request("update", xml=described.switched(element, described.link_state(spec[name])))
            except LauncherGone:
                raise
            except LauncherError as error:
                outcome.troubles[name] = ("FailedUpdate", str(error))
    outcome.missing = {name for name in spec if name not in have}
    for name in sorted(outcome.missing):
        attempt = Outcome(missing=outcome.missing - {name})
        try:
            sources = await join(shown(vmi, attempt))
            _has_place(vmi, name, sources)
            if name in sources and sources[name].mac in there:  # attached before anybody could tell
                outcome.missing.discard(name)
                continue
            card = await asyncio.to_thread(render.card_xml, vmi, driver, name, sources, folder)
            await link.request("attach", xml=card)
        except LauncherGone:
            raise
        except (LauncherError, AgentError) as error:
            outcome.troubles[name] = ("FailedAttach", str(error))
        else:
            outcome.missing.discard(name)
    return outcome
