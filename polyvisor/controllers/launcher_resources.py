"""How much of its node a launcher's container asks for: memory and CPU, with what KubeVirt's fields say of it. Pure.

Memory in huge pages is a resource of its own, of which a container has exactly what it asks for; what is left to ask
for as ordinary memory is then what the hypervisor and the launcher need beside the guest. A kubelet gives CPUs away
only to a container that asks for whole ones, in a Pod that asks for no less of anything than it is allowed.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from polyvisor.admission.configuration import overhead_ratio
from polyvisor.api import node_names
from polyvisor.api.quantity import format_quantity, parse_quantity, whole
from polyvisor.api.reading import nested
from polyvisor.machine import Machine

if TYPE_CHECKING:
    from polyvisor.api import Obj, VirtualMachineInstanceSpec
    from polyvisor.drivers.base import Driver

CPU_ALLOCATION_RATIO = 10


def resources_of(
    driver: Driver,
    spec: VirtualMachineInstanceSpec,
    config: Obj,
    *,
    cpu_limit: bool = False,
    overhead: bool = True,
) -> Obj:
    """Return ``resources`` of the container that runs a machine.

    With ``cpu_limit`` it may use no more CPUs than its guest has, where the machine says nothing of a limit. Without
    ``overhead`` nothing is counted beside the guest's own memory: it is the host's of an endpoint.
    """
    ratio = overhead_ratio(config.get("additionalGuestMemoryOverheadRatio")) or 1.0
    machine = Machine.of(spec)
    beside = int((driver.overhead_bytes(spec) + machine.memory.added_overhead) * ratio) if overhead else 0
    given = spec.domain.resources
    requests: dict[str, Any] = dict((given.requests if given else None) or {})
    limits: dict[str, Any] = dict((given.limits if given else None) or {})
    own, page = machine.vcpus.dedicated, machine.memory.page
    if own:
        requests["cpu"] = limits["cpu"] = str(own)
        if "memory" in limits:
            requests["memory"] = limits["memory"]
    memory = whole(requests["memory"]) if "memory" in requests else machine.memory.guest
    overcommitted = given is not None and given.overcommit_guest_overhead is True and not own
    huge = machine.memory.guest if page else 0
    requests["memory"] = format_quantity(memory - huge + (0 if overcommitted and not huge else beside))
    if own:
        limits["memory"] = requests["memory"]
    elif "memory" in limits:
        limits["memory"] = format_quantity(whole(limits["memory"]) - huge + beside)
    if page:
        pages = {node_names.huge_pages(page): format_quantity(huge)}
        requests, limits = requests | pages, limits | pages
    if "cpu" not in requests:
        if "cpu" in limits:
            requests["cpu"] = limits["cpu"]
        else:
            parts = nested(config, "developerConfiguration").get("cpuAllocationRatio") or CPU_ALLOCATION_RATIO
            share = (Decimal(machine.vcpus.count) / Decimal(parse_quantity(parts))).quantize(Decimal("0.001"))
            requests["cpu"] = format_quantity(share, binary=False)
    if cpu_limit and "cpu" not in limits:
        limits["cpu"] = str(machine.vcpus.count)
    return {"requests": requests} | ({"limits": limits} if limits else {})


def guaranteed(resources: Obj) -> bool:
    """Whether a container alone would have Kubernetes' quality of service ``Guaranteed``."""
    requests, limits = resources["requests"], resources.get("limits", {})
    return all(
        name in limits and parse_quantity(requests[name]) == parse_quantity(limits[name]) for name in ("cpu", "memory")
    )


def firm(resources: Obj) -> Obj:
    """Return the resources with as much asked for as is allowed, so that a small container spoils no guarantee."""
    limits = resources["limits"]
    return {"requests": resources["requests"] | limits, "limits": limits}
