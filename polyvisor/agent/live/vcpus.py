"""CPUs that are added to a guest while it runs: as many sockets as the machine's spec has by now.

``status.currentCPUTopology`` tells what the guest was given last, and so whether there is something to do. A CPU that
was added stays until the machine is restarted, since guests cannot be relied upon to let go of one.
"""

from __future__ import annotations

from polyvisor.agent.errors import AgentError
from polyvisor.agent.link.connection import LauncherError, LauncherGone, Link
from polyvisor.api import Obj
from polyvisor.api.reading import nested, read_status
from polyvisor.drivers.base import Driver
from polyvisor.drivers.verdict import supports
from polyvisor.machine import Vcpus

FEATURE = "lifecycle.hotplug.cpu"


def topology(vmi: Obj) -> Obj:
    """Return the topology that a machine's spec asks for, as a status tells it; empty if it cannot change."""
    cpu = nested(vmi, "spec", "domain", "cpu")
    if not cpu.get("maxSockets"):
        return {}
    return {name: int(cpu.get(name) or 1) for name in ("cores", "sockets", "threads")}


async def settle(vmi: Obj, link: Link, driver: Driver) -> Obj:
    """Give the guest the CPUs that its spec asks for, if it has not got them; return the fields of its status.

    Raises :class:`AgentError` where the hypervisor refuses.
    """
    wanted, told = topology(vmi), read_status(vmi).get("currentCPUTopology")
    if not wanted or wanted == told or not supports(driver, FEATURE):
        return {"currentCPUTopology": told} if told else {}
    if told is not None:  # else it was started with them
        try:
            await link.request("vcpus", count=Vcpus.read(vmi["spec"]["domain"]).count)
        except LauncherGone:
            raise
        except LauncherError as error:
            raise AgentError(f"the guest cannot be given {wanted['sockets']} CPU sockets: {error}") from None
    return {"currentCPUTopology": wanted}
