"""The whole of a spec as its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from polyvisor.machine.choice import Choice
from polyvisor.machine.disks import Disk
from polyvisor.machine.interfaces import Interface, interfaces_of
from polyvisor.machine.memory import Memory
from polyvisor.machine.vcpus import Vcpus

if TYPE_CHECKING:
    from polyvisor.api import Obj, VirtualMachineInstanceSpec


@dataclass(frozen=True, slots=True)
class Machine:
    """What a VMI asks for. Immutable: a changed spec is another ``Machine``."""

    vcpus: Vcpus
    memory: Memory
    choice: Choice
    disks: tuple[Disk, ...]
    interfaces: tuple[Interface, ...]

    @classmethod
    def of(cls, spec: VirtualMachineInstanceSpec) -> Machine:
        """Read a typed spec; raises :class:`~polyvisor.api.quantity.QuantityError` for a broken quantity."""
        return cls(
            Vcpus.of(spec.domain),
            Memory.of(spec.domain),
            Choice.of(spec),
            tuple(Disk.of(disk) for disk in spec.domain.devices.disks or []),
            interfaces_of(spec.domain),
        )

    @classmethod
    def read(cls, spec: Obj) -> Machine:
        """Read a plain spec; raises as :meth:`of`, and :class:`pydantic.ValidationError` for one of another shape."""
        from polyvisor.api import VirtualMachineInstanceSpec

        return cls.of(VirtualMachineInstanceSpec.model_validate(spec))
