"""A VMI's spec, parsed once into an immutable :class:`Machine`; a question about a spec has its one function here.

Admission, placement, controllers, agent and drivers ask a ``Machine`` (or one of its parts) and do not work the answer
out themselves, so that two of them cannot disagree. Nothing here knows a hypervisor: what a driver chooses for what a
user left open is filled in later, by the driver.
"""

from polyvisor.machine.choice import Choice
from polyvisor.machine.disks import Disk
from polyvisor.machine.interfaces import Interface, interfaces_of
from polyvisor.machine.memory import Memory
from polyvisor.machine.model import Machine
from polyvisor.machine.vcpus import Vcpus

__all__ = ["Choice", "Disk", "Interface", "Machine", "Memory", "Vcpus", "interfaces_of"]
