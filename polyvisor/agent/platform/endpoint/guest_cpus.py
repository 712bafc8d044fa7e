"""Which CPUs and machine types an endpoint's host can show to guests: what libvirt says there, as on a node.

Nothing is tried on the host. Where libvirt's driver tells nothing of that, nothing is known, and a machine that asks
for a model or a machine type by name finds no node.
"""

from __future__ import annotations

from dataclasses import replace

from polyvisor.agent.platform.endpoint.host_node import architecture_of, parsed
from polyvisor.agent.platform.endpoint.inventory import HostInfo
from polyvisor.agent.platform.endpoint.link import HostError, HostLink
from polyvisor.drivers import cpus
from polyvisor.drivers.base import Cpus, Driver

SECONDS = 60.0
"""The first question has libvirt ask each emulator what it can do."""


async def guest_cpus(link: HostLink, driver: Driver, host: HostInfo) -> Cpus | None:
    """Ask a host that was just connected; the models are those of all kinds of guests that it offers."""
    found: list[Cpus] = []
    for virt_type in driver.offered(parsed(host.capabilities)):
        try:
            told = await link.request("capabilities", SECONDS, virtType=virt_type)
            texts = {name: str(told.get(name) or "") for name in ("host", "domain", "cpu")}
            if texts["domain"]:
                found.append(cpus.read(texts, architecture_of(host.capabilities)))
        except (HostError, ValueError):
            continue
    if not found:
        return None
    return replace(found[0], models=tuple(sorted({model for one in found for model in one.models})))
