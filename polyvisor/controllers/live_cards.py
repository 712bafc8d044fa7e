"""Brings the network cards of a running instance in line with its machine's template, as far as its driver can. Pure.

The instance's spec is what the node's agent follows. What cannot be done while the machine runs stays as it was, and
the instance's digest of the template with it, so that the machine goes on to say that it wants a restart.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from polyvisor.admission.cards import RESTART, cards, changes
from polyvisor.api.names import TEMPLATE_ANNOTATION
from polyvisor.api.reading import read_status
from polyvisor.controllers.template import made_cards, with_cards
from polyvisor.drivers.base import Driver
from polyvisor.drivers.verdict import supports

if TYPE_CHECKING:
    from polyvisor.api import Obj


def due(vm: Obj, vmi: Obj) -> bool:
    """Whether the template has other cards than the instance is up to."""
    made = made_cards(vmi)
    return made is not None and made != cards(vm["spec"]["template"].get("spec") or {})


def step(vm: Obj, template: Obj, vmi: Obj, driver: Driver) -> Obj | None:
    """Return the instance with all changes that can be made now, None if there are none.

    ``template`` is the template's spec as an instance is made from it now, with instance type and preference.
    """
    made, wanted = made_cards(vmi) or {}, cards(vm["spec"]["template"].get("spec") or {})
    new = copy.deepcopy(vmi)
    spec = new["spec"]
    devices = spec["domain"].setdefault("devices", {})
    have = {card["name"]: card for card in devices.get("interfaces") or []}
    networks = {network["name"]: network for network in spec.get("networks") or []}
    given = {card["name"]: card for card in template["domain"].get("devices", {}).get("interfaces") or []}
    joined = {network["name"]: network for network in template.get("networks") or []}
    told = {entry.get("name") for entry in read_status(vmi).get("interfaces") or []}
    reached = dict(made)
    for name, feature in changes(made, wanted).items():
        if feature == RESTART or not supports(driver, feature):
            continue
        if name not in wanted:
            if name in told or len(have) == 1:  # of no cards at all admission would make the default one
                continue
            have.pop(name, None)
            networks.pop(name, None)
            del reached[name]
            continue
        before, after = made.get(name), wanted[name]
        if before is None or before.fixed != after.fixed or name not in have:
            if name in told:  # the guest still has the one before
                continue
            have[name], networks[name] = copy.deepcopy(given[name]), copy.deepcopy(joined[name])
        elif after.state:
            have[name]["state"] = after.state
        else:
            have[name].pop("state", None)
        reached[name] = after
    if reached == made:
        return None
    devices["interfaces"], spec["networks"] = list(have.values()), list(networks.values())
    in_order = {name: reached[name] for name in (*wanted, *made) if name in reached}
    new["metadata"]["annotations"][TEMPLATE_ANNOTATION] = with_cards(vmi, in_order)
    return new
