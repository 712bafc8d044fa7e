"""What the machines of one endpoint use: one question for all of them, whenever somebody looks at the figures."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from polyvisor.agent.live.statistics import FEATURE, Told, labels_of
from polyvisor.agent.platform.endpoint import telling
from polyvisor.agent.platform.endpoint.link import HostError
from polyvisor.api import Obj
from polyvisor.drivers.at_endpoint import at_endpoint
from polyvisor.drivers.base import Driver
from polyvisor.drivers.verdict import supports

if TYPE_CHECKING:
    from polyvisor.agent.platform.endpoint.machines import Machines

SECONDS = 5.0
log = logging.getLogger("polyvisor.statistics")


async def asked(machines: Machines, driver_of: Callable[[Obj], Driver | None]) -> list[Told]:
    """Return the figures of an endpoint's machines; none where its host does not answer in time."""
    wanted = []
    for vmi in machines.running():
        driver = driver_of(vmi)
        if driver is not None and supports(at_endpoint(driver), FEATURE):
            wanted.append((vmi, driver.name))
    if not wanted:
        return []
    try:
        told = (await machines.ask("stats", SECONDS)).get("stats")
    except HostError as error:
        log.debug("endpoint %s: %s", machines.name, error)
        return []
    found: list[Told] = []
    for vmi, driver_name in wanted:
        figures = told.get(telling.uuid_of(vmi)) if isinstance(told, dict) else None
        if isinstance(figures, dict):
            metadata = vmi["metadata"]
            where = {"node": machines.node, "namespace": metadata["namespace"], "name": metadata["name"]}
            found.append(({**where, "hypervisor": driver_name}, figures, labels_of(vmi)))
    return found
