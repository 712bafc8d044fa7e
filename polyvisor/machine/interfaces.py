"""What a spec says of an interface, apart from the network that it is on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from polyvisor.api.names import ABSENT

if TYPE_CHECKING:
    from polyvisor import api

INTERFACES = "spec.domain.devices.interfaces"


@dataclass(frozen=True, slots=True)
class Interface:
    """One of ``spec.domain.devices.interfaces``.

    ``field`` is its path. ``present``: the guest has it; one whose ``state`` is ``absent`` is only kept in the spec.
    ``mac`` is the address that is asked for, in libvirt's form (lower case, colons), and ``pci_address`` the one on the
    PCI bus, in lower case; empty where none is asked for.
    """

    name: str
    field: str
    present: bool
    mac: str = ""
    pci_address: str = ""

    @classmethod
    def of(cls, interface: api.Interface, number: int) -> Interface:
        """Read a typed interface, which is the ``number``-th, counted from 0."""
        return cls(
            name=interface.name,
            field=f"{INTERFACES}[{number}]",
            present=interface.state != ABSENT,
            mac=(interface.mac_address or "").replace("-", ":").lower(),
            pci_address=(interface.pci_address or "").lower(),
        )


def interfaces_of(domain: api.DomainSpec) -> tuple[Interface, ...]:
    """Return the interfaces of a typed ``spec.domain``, in their order."""
    return tuple(Interface.of(one, number) for number, one in enumerate(domain.devices.interfaces or []))
