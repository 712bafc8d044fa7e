"""Which changes of a machine's network cards take effect while it runs, and what its driver needs for them. Pure.

As KubeVirt has it: a card that is there may have its link set up or down, or leave (``state: absent``); a new one may
come; all else about a card is fixed until the machine is restarted. A card is compared with its network, as one thing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from polyvisor.admission.values import items, mapping, text
from polyvisor.api import Obj
from polyvisor.api.names import ABSENT

INTERFACE = "lifecycle.hotplug.interface"
LINK = "lifecycle.hotplug.link"
RESTART = "restart"
"""Stands where no driver can: the machine must be restarted for the change."""


@dataclass(frozen=True, slots=True)
class Card:
    """A card as it stands in a manifest: a digest of what is fixed, and the state that may change."""

    fixed: str
    state: str = ""

    def __str__(self) -> str:
        return f"{self.fixed}:{self.state}" if self.state else self.fixed


def cards(spec: Obj) -> dict[str, Card]:
    """Return the cards of a machine's spec, by name, in their order."""
    networks = {text(network.get("name")): network for _, network in items(spec.get("networks"), "")}
    found = {}
    for _, card in items(mapping(spec, "domain", "devices").get("interfaces"), ""):
        name = text(card.get("name"))
        fixed = {key: value for key, value in card.items() if key != "state"}
        plain = json.dumps([fixed, networks.get(name)], sort_keys=True, separators=(",", ":"))
        state = text(card.get("state"))
        found[name] = Card(hashlib.sha256(plain.encode()).hexdigest()[:16], "" if state == "up" else state)
    return found


def needed(before: Card | None, after: Card | None) -> str:
    """Return the feature by which a card becomes another, empty if nothing changes, or :data:`RESTART`."""
    if before == after:
        return ""
    if before is None:
        return INTERFACE
    if after is None:
        return INTERFACE if before.state == ABSENT else RESTART
    if before.fixed != after.fixed:
        return INTERFACE if before.state == ABSENT else RESTART
    return INTERFACE if ABSENT in (before.state, after.state) else LINK


def reordered(before: Mapping[str, Card], after: Mapping[str, Card]) -> bool:
    """Whether cards that stay change places: a guest finds its cards in their order."""
    return [name for name in before if name in after] != [name for name in after if name in before]


def changes(before: Mapping[str, Card], after: Mapping[str, Card]) -> dict[str, str]:
    """Return what each card that changes needs, by name."""
    if reordered(before, after):
        return dict.fromkeys(after, RESTART)
    both = {name: needed(before.get(name), after.get(name)) for name in (*after, *before)}
    return {name: feature for name, feature in both.items() if feature}
