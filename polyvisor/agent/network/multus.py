"""What Multus says of a Pod: the interfaces that it has finished, in the Pod's annotation ``network-status``.

What isn't obvious: an interface that comes to a Pod that runs can be seen before it has its addresses, so where Multus
says anything of a Pod, what it does not tell of yet is not there. Where it says nothing, something else joins Pods.
"""

from __future__ import annotations

import json
from dataclasses import replace

from polyvisor.agent.network.facts import Facts
from polyvisor.api import Obj
from polyvisor.api.names import NETWORK_STATUS_ANNOTATION, POD_INTERFACE_PREFIX
from polyvisor.api.reading import annotations_of


def told(pod: Obj) -> set[str] | None:
    """Return the interfaces that Multus tells of; None: it tells nothing."""
    text = annotations_of(pod).get(NETWORK_STATUS_ANNOTATION)
    try:
        found = json.loads(text or "null")
    except ValueError:
        return None
    if not isinstance(found, list):
        return None
    return {str(one["interface"]) for one in found if isinstance(one, dict) and one.get("interface")}


def finished(facts: Facts, pod: Obj) -> Facts:
    """Return what there is without the interfaces that Multus is still at work on."""
    known = told(pod)
    if known is None:
        return facts
    devices = facts.devices.items()
    ours = {name: device for name, device in devices if not name.startswith(POD_INTERFACE_PREFIX) or name in known}
    return replace(facts, devices=ours)
