"""Which drivers a configuration enables (``spec.configuration.hypervisors`` of the KubeVirt object), best first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polyvisor.drivers.base import Driver


@dataclass(frozen=True, slots=True)
class Enabled:
    """How a driver may be used: with these virt types (None: with all that it has), by this launcher image, if any."""

    virt_types: frozenset[str] | None = None
    launcher_image: str = ""


def by_name_or_alias(name: str, drivers: Iterable[Driver]) -> Driver | None:
    """Return the driver that a configuration means by ``name``."""
    return next((driver for driver in drivers if name == driver.name or name in driver.aliases), None)


def enabled(listed: Iterable[tuple[str, str]], drivers: Mapping[str, Driver]) -> dict[str, Enabled]:
    """Return the enabled drivers by name; all of ``drivers`` where nothing is listed.

    ``listed`` are pairs of a name (or an alias, which enables one virt type) and a launcher image. A name that no
    driver has is kept, so that it can be reported.
    """
    found: dict[str, Enabled] = {}
    for given, image in listed:
        driver = by_name_or_alias(given, drivers.values())
        name = driver.name if driver else given
        alias = driver.aliases.get(given) if driver and given != name else None
        virt_types = None if alias is None else frozenset({alias})
        if (before := found.get(name)) is not None:
            both = before.virt_types is not None and virt_types is not None
            virt_types = (before.virt_types or frozenset()) | (virt_types or frozenset()) if both else None
            image = before.launcher_image or image
        found[name] = Enabled(virt_types, image)
    return found or {name: Enabled() for name in drivers}
