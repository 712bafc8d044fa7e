"""The networks that Multus joins a launcher Pod to, as the Pod's annotation asks for them. Pure.

While a machine runs they follow its cards, as with KubeVirt: Multus's dynamic networks controller, where there is one,
joins a running Pod to what is added and takes it from what is gone. What isn't obvious: a card that leaves keeps its
network until the guest has let go of it, and what somebody else asks of Multus for the Pod stays as it is.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from polyvisor.api.names import ABSENT, NETWORKS_ANNOTATION, pod_interface
from polyvisor.api.reading import annotations_of, nested, read_status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from polyvisor.api import Obj

_OURS = re.compile(r"pod[0-9a-f]{11}")


def wanted(vmi: Obj) -> list[Obj]:
    """Return what Multus is to join the Pod to; the agent finds the interfaces by the same names."""
    cards = {card["name"]: card for card in nested(vmi["spec"]["domain"], "devices").get("interfaces") or []}
    told = {entry.get("name") for entry in read_status(vmi).get("interfaces") or []}
    found = []
    for network in vmi["spec"].get("networks") or []:
        card = cards.get(network["name"]) or {}
        if (multus := network.get("multus")) and (card.get("state") != ABSENT or network["name"] in told):
            space, _, name = multus["networkName"].rpartition("/")
            one = {"name": name, "namespace": space or vmi["metadata"]["namespace"]}
            if mac := card.get("macAddress"):
                one["mac"] = mac.replace("-", ":").lower()
            found.append(one | {"interface": pod_interface(network)})
    return found


def written(elements: list[Obj]) -> str:
    """Return the annotation's text."""
    return json.dumps(elements, separators=(",", ":"))


def changed(vmi: Obj, pod: Obj) -> str | None:
    """Return what the annotation of a running machine's Pod has to become, None if it is as it should be."""
    text = annotations_of(pod).get(NETWORKS_ANNOTATION)
    have = _read(text or "[]")
    if have is None:
        return None  # in words that are nobody's here
    after = {str(one["interface"]): one for one in wanted(vmi)}
    kept = [one for one in have if not _OURS.fullmatch(str(one.get("interface"))) or _same(one, after)]
    there = {one.get("interface") for one in kept}
    new = kept + [one for interface, one in after.items() if interface not in there]
    return None if new == have else written(new)


def _same(one: Obj, after: Mapping[str, Obj]) -> bool:
    """Whether an interface is wanted still, on the network that it is on."""
    other = after.get(str(one["interface"])) or {}
    return all(one.get(key) == other.get(key) for key in ("name", "namespace"))


def _read(text: str) -> list[Obj] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, list) and all(isinstance(one, dict) for one in found) else None
