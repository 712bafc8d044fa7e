"""libvirt's own schema of domain XML, as the distribution installs it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from lxml import etree

PLACES = (Path("/usr/share/libvirt/schemas/domain.rng"), Path("/usr/local/share/libvirt/schemas/domain.rng"))


@cache
def domain_schema() -> etree.RelaxNG:
    """Return the schema; raise :class:`FileNotFoundError` where libvirt is not installed."""
    for place in PLACES:
        if place.exists():
            return etree.RelaxNG(etree.parse(place))
    raise FileNotFoundError(f"libvirt's schema is not at {PLACES[0]} (Debian's package libvirt0 has it)")


def flaws(xml: str) -> list[str]:
    """Return what the schema has against a domain's XML."""
    schema = domain_schema()
    return [] if schema.validate(etree.fromstring(xml)) else [entry.message for entry in schema.error_log]


def libvirt_version() -> tuple[int, ...]:
    """Return the version of the libvirt that is installed, and of the schema with it."""
    import libvirt

    number = libvirt.getVersion()
    return number // 1_000_000, number // 1_000 % 1_000, number % 1_000


def newer(version: str) -> bool:
    """Whether a dotted version is newer than the libvirt that is installed."""
    return bool(version) and tuple(int(part) for part in version.split(".")) > libvirt_version()
