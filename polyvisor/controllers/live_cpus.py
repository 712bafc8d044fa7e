"""Gives a running instance more CPU sockets when its machine's template has more, up to ``maxSockets``. Pure.

As with KubeVirt, sockets alone are added, and none is taken away. What isn't obvious: a CPU limit or CPUs of its own
belong to the launcher Pod, which stays as it is, so such an instance waits for its restart.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from polyvisor.api.names import TEMPLATE_ANNOTATION
from polyvisor.api.reading import nested
from polyvisor.controllers.template import made_sockets, sockets_of, with_sockets
from polyvisor.drivers.base import Driver
from polyvisor.drivers.verdict import supports

if TYPE_CHECKING:
    from polyvisor.api import Obj

FEATURE = "lifecycle.hotplug.cpu"
TOO_MANY = "CPU sockets updated in template spec to a value higher than what's available"
FEWER = "Reduction of CPU socket count requires a restart"


def due(vm: Obj, vmi: Obj) -> bool:
    """Whether the template has another number of sockets than the instance is up to."""
    made = made_sockets(vmi)
    return made is not None and made != sockets_of(vm["spec"]["template"].get("spec") or {})


def step(vm: Obj, vmi: Obj, driver: Driver) -> Obj | None:
    """Return the instance with the template's sockets, None if it cannot have them while it runs."""
    wanted = sockets_of(vm["spec"]["template"].get("spec") or {})
    domain = nested(vmi, "spec", "domain")
    cpu, limits = nested(domain, "cpu"), nested(domain, "resources", "limits")
    now, most = int(cpu.get("sockets") or 1), int(cpu.get("maxSockets") or 0)
    own = bool(cpu.get("dedicatedCpuPlacement") or limits.get("cpu"))
    if wanted is None or not now < wanted <= most or own or not supports(driver, FEATURE):
        return None
    new = copy.deepcopy(vmi)
    new["spec"]["domain"]["cpu"]["sockets"] = wanted
    new["metadata"]["annotations"][TEMPLATE_ANNOTATION] = with_sockets(vmi, wanted)
    return new


def why_restart(vm: Obj, vmi: Obj | None) -> str:
    """Return why a change of sockets waits for a restart, in KubeVirt's words; empty if it is not about them."""
    if vmi is None or not due(vm, vmi):
        return ""
    wanted, most = sockets_of(vm["spec"]["template"].get("spec") or {}), nested(vmi, "spec", "domain", "cpu")
    if wanted is None:
        return ""
    if wanted > int(most.get("maxSockets") or 0):
        return TOO_MANY
    return FEWER if wanted < (made_sockets(vmi) or 0) else ""
