"""A machine's name and uuid in libvirt, from its plain object."""

from __future__ import annotations

from polyvisor import domain
from polyvisor.api import Obj, VirtualMachineInstance


def domain_name(vmi: Obj) -> str:
    """Return the name under which libvirt knows a machine."""
    return domain.domain_name(VirtualMachineInstance.model_validate(vmi))


def domain_uuid(vmi: Obj) -> str:
    """Return the machine's uuid in libvirt."""
    return domain.domain_uuid(VirtualMachineInstance.model_validate(vmi))
