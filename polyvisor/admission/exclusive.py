"""Rules for what a machine has of its node to itself: memory in huge pages, and whole CPUs.

The guest's memory is made of whole pages, and Kubernetes gives a container exactly as many as it asks for; a kubelet
gives CPUs away only to a Pod that asks for exactly what it is allowed. So what does not add up is told here, not when
the machine is to start.
"""

from __future__ import annotations

from math import prod

from polyvisor.admission.values import Findings, amount, mapping, number
from polyvisor.api import Obj
from polyvisor.api.quantity import format_quantity

LEAST_PAGE = 64 * 1024
"""The smallest huge page of any architecture that Kubernetes knows."""
MOST_THREADS = 2


def validate(domain: Obj, path: str, found: Findings) -> None:
    """Check the ``domain`` of an instance's spec, which stands at ``path``."""
    _huge_pages(domain, path, found)
    _cpus(domain, path, found)


def _huge_pages(domain: Obj, path: str, found: Findings) -> None:
    memory, resources = mapping(domain, "memory"), mapping(domain, "resources")
    pages, where = mapping(memory, "hugepages"), f"{path}.memory.hugepages.pageSize"
    if memory.get("hugepages") is None:
        return
    if not pages.get("pageSize"):
        found.required(where, "required; the size of the pages, such as 2Mi or 1Gi")
        return
    size = amount(pages["pageSize"])
    if size is None or size != int(size) or size < LEAST_PAGE:
        found.add(where, f"{str(pages['pageSize'])[:60]!r} is no size of a page such as 2Mi or 1Gi")
        return
    given = [
        (f"{path}.memory.guest", amount(memory.get("guest"))),
        (f"{path}.resources.requests[memory]", amount(mapping(resources, "requests").get("memory"))),
        (f"{path}.resources.limits[memory]", amount(mapping(resources, "limits").get("memory"))),
    ]
    place, guest = next(((at, value) for at, value in given if value is not None), ("", None))
    if guest is None:
        return
    if guest < size:
        message = f"found {format_quantity(guest)}; with huge pages of {format_quantity(size)} it is at least one page"
        found.add(place, message)
    elif guest % size:
        below = guest - guest % size
        message = (
            f"found {format_quantity(guest)}, no multiple of the page size {format_quantity(size)} ({where}); "
            f"{format_quantity(below)} or {format_quantity(below + size)} are accepted"
        )
        found.add(place, message)
    for at, value in given[1:]:
        if value is not None and value < guest:
            message = (
                f"found {format_quantity(value)}; memory in huge pages is never lent, so it is at least the guest's"
            )
            found.add(at, f"{message}, {format_quantity(guest)}")


def _cpus(domain: Obj, path: str, found: Findings) -> None:
    cpu, resources = mapping(domain, "cpu"), mapping(domain, "resources")
    if cpu.get("dedicatedCpuPlacement") is not True:
        if cpu.get("isolateEmulatorThread") is True:
            message = (
                "a CPU for emulation alone comes with CPUs of the machine's own: set dedicatedCpuPlacement as well"
            )
            found.add(f"{path}.cpu.isolateEmulatorThread", message)
        return
    amounts = {
        (kind, name): amount(mapping(resources, kind).get(name))
        for kind in ("requests", "limits")
        for name in ("cpu", "memory")
    }
    given = [number(cpu.get(key)) for key in ("sockets", "cores", "threads")]
    total = prod(value or 1 for value in given) if any(given) else None
    threads = number(cpu.get("threads")) or 1
    if threads > MOST_THREADS:
        message = f"found {threads}; with CPUs of its own a machine has at most {MOST_THREADS} threads a core"
        found.add(f"{path}.cpu.threads", f"{message}, as many as processors have; give it more cores")
    for kind in ("requests", "limits"):
        value, where = amounts[kind, "cpu"], f"{path}.resources.{kind}[cpu]"
        if value is None:
            continue
        if value != int(value) or value < 1:
            found.add(
                where, f"found {format_quantity(value, binary=False)}; a whole number of CPUs can be the machine's own"
            )
        elif total is not None and value != total:
            found.add(
                where, f"found {value}; sockets x cores x threads of {path}.cpu make {total}, and both are the same"
            )
    for name in ("cpu", "memory"):
        low, high = amounts["requests", name], amounts["limits", name]
        if low is not None and high is not None and low < high:
            message = f"found {format_quantity(low)}; with CPUs of its own a machine requests its limit"
            found.add(f"{path}.resources.requests[{name}]", f"{message}, {format_quantity(high)}")
    most, now = number(cpu.get("maxSockets")), number(cpu.get("sockets")) or 1
    if most is not None and most > now:
        message = (
            f"found {most}; a machine with CPUs of its own has all of them from its start, so it is sockets, {now}"
        )
        found.add(f"{path}.cpu.maxSockets", message)
