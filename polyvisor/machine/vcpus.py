"""How many virtual CPUs a guest has.

A topology (``sockets``, ``cores``, ``threads``) says it; without one the CPU limit does, else the CPU request, both
rounded up; else there is one. That is KubeVirt's order (``GetCPUTopology`` in its
``pkg/virt-launcher/virtwrap/converter/vcpu/vcpu.go``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

from polyvisor.api.quantity import parse_quantity

if TYPE_CHECKING:
    from polyvisor.api import DomainSpec, Obj

CPU = "spec.domain.cpu"
RESOURCES = "spec.domain.resources"


@dataclass(frozen=True, slots=True)
class Vcpus:
    """The virtual CPUs of a guest; all numbers are CPUs, none is a share of one.

    ``count`` is how many the guest starts with, ``most`` how many it may come to have (``maxSockets``). ``dedicated``
    is how many CPUs of the node are its alone, 0 where it shares them; it includes the one for the emulator's threads.
    ``field`` is the path of the field that says ``most``, empty where none does.
    """

    count: int
    most: int
    dedicated: int = 0
    field: str = ""

    @classmethod
    def of(cls, domain: DomainSpec) -> Vcpus:
        """Read a typed ``spec.domain``; raises :class:`~polyvisor.api.quantity.QuantityError` for a broken quantity."""
        cpu, resources = domain.cpu, domain.resources
        given = (
            {
                "sockets": cpu.sockets,
                "cores": cpu.cores,
                "threads": cpu.threads,
                "maxSockets": cpu.max_sockets,
                "dedicatedCpuPlacement": cpu.dedicated_cpu_placement,
                "isolateEmulatorThread": cpu.isolate_emulator_thread,
            }
            if cpu
            else {}
        )
        return _vcpus(given, {"limits": resources.limits, "requests": resources.requests} if resources else {})

    @classmethod
    def read(cls, domain: Obj) -> Vcpus:
        """Read a plain ``spec.domain`` that admission let in; raises as :meth:`of`."""
        return _vcpus(domain.get("cpu") or {}, domain.get("resources") or {})


def _vcpus(cpu: Mapping[str, Any], resources: Mapping[str, Any]) -> Vcpus:
    given = {name: int(cpu.get(name) or 1) for name in ("sockets", "cores", "threads")}
    count, field = given["sockets"] * given["cores"] * given["threads"], ""
    if any(cpu.get(name) for name in given):
        field = f"{CPU}.{max(given, key=lambda name: given[name])}"
    else:
        for kind in ("limits", "requests"):
            amount = (resources.get(kind) or {}).get("cpu")
            if amount is not None:
                count, field = max(1, ceil(parse_quantity(amount))), f"{RESOURCES}.{kind}[cpu]"
                break
    most = int(cpu.get("maxSockets") or 0) * given["cores"] * given["threads"]
    if cpu.get("maxSockets") and most > count:
        given["maxSockets"] = int(cpu["maxSockets"])
        field = f"{CPU}.{max(given, key=lambda name: given[name])}"
    dedicated = count + bool(cpu.get("isolateEmulatorThread")) if cpu.get("dedicatedCpuPlacement") else 0
    return Vcpus(count, max(count, most), dedicated, field)
