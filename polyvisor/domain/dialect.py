"""What the blocks ask of whoever finishes the domain XML for one hypervisor; every driver answers it.

It stands here, and not with the drivers, because a driver imports the blocks and never the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.api import VirtualMachineInstanceSpec


class CardKind(StrEnum):
    """What a hypervisor needs from the node for a network interface.

    ``NONE``: nothing, its networks are its own. ``TAP``: a tap device, made for its user. ``BRIDGE``: the bridge, to
    which it joins a device of its own.
    """

    NONE = "none"
    TAP = "tap"
    BRIDGE = "bridge"


class Dialect(Protocol):
    """How one hypervisor's domain XML differs from the shared form."""

    @property
    def os_types(self) -> Sequence[str]:
        """libvirt's ``<os><type>``, the usual one first."""

    @property
    def own_ids(self) -> bool:
        """Whether a guest's users are users of the node, so that each machine has a range of ids to itself."""

    @property
    def cards(self) -> CardKind:
        """What an interface is joined to."""

    def domain_name(self, name: str, uuid: str) -> str:
        """Return the domain's name in libvirt."""

    def defaults(self, spec: VirtualMachineInstanceSpec) -> None:
        """Fill in what the user left open, in place."""

    def adapt(self, domain: _Element, spec: VirtualMachineInstanceSpec) -> None:
        """Change the shared domain XML where this hypervisor differs, in place."""

    def receive(self, domain: _Element) -> None:
        """Change the XML of a domain that moves, in place, so that it waits for its state when it is started."""
