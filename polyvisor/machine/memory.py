"""How much memory a guest has, and what it is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from polyvisor.api.quantity import parse_quantity, whole

if TYPE_CHECKING:
    from polyvisor.api import DomainSpec


@dataclass(frozen=True, slots=True)
class Memory:
    """A guest's memory; all sizes are bytes.

    ``guest`` is what the guest sees: ``memory.guest``, else the memory request, else the memory limit, 0 where none of
    them is given (admission refuses such a machine). ``page`` is the size of the huge pages that it is made of, 0 for
    ordinary memory. ``added_overhead`` is what the spec reserves beside the guest and the driver's own overhead.
    """

    guest: int
    page: int = 0
    added_overhead: int = 0

    @property
    def pages(self) -> int:
        """How many huge pages the guest's memory is; 0 for ordinary memory."""
        return self.guest // self.page if self.page else 0

    @classmethod
    def of(cls, domain: DomainSpec) -> Memory:
        """Read a typed ``spec.domain``; raises :class:`~polyvisor.api.quantity.QuantityError` for a broken quantity."""
        memory = domain.memory
        huge = memory.hugepages if memory else None
        reserved = memory.reserved_overhead if memory else None
        return cls(
            guest=_guest(domain),
            page=int(parse_quantity(huge.page_size)) if huge and huge.page_size else 0,
            added_overhead=whole(reserved.added_overhead) if reserved and reserved.added_overhead is not None else 0,
        )


def _guest(domain: DomainSpec) -> int:
    if domain.memory and domain.memory.guest is not None:
        return whole(domain.memory.guest)
    resources = domain.resources
    for amounts in (resources.requests, resources.limits) if resources else ():
        if amounts and amounts.get("memory") is not None:
            return whole(amounts["memory"])
    return 0
