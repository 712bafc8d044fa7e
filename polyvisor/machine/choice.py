"""What a machine asks of its hypervisor (``spec.hypervisor``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polyvisor.api import VirtualMachineInstanceSpec


@dataclass(frozen=True, slots=True)
class Choice:
    """``drivers`` are the names of the drivers that the machine allows, best first; none: those that are enabled.

    ``virt_type`` is the libvirt domain type that it insists on, empty where any will do. ``endpoint`` is the
    HypervisorEndpoint on whose host it is to run, empty for a node of the cluster.
    """

    drivers: tuple[str, ...] = ()
    virt_type: str = ""
    endpoint: str = ""

    @classmethod
    def of(cls, spec: VirtualMachineInstanceSpec) -> Choice:
        """Read a typed spec."""
        given = spec.hypervisor
        if given is None:
            return cls()
        named = [given.driver] if given.driver else given.any_of or []
        return cls(tuple(dict.fromkeys(named)), given.virt_type or "", given.endpoint or "")
