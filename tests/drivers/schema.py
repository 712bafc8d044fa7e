"""libvirt's own schema of domain XML, to hold rendered XML against."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from lxml import etree

from polyvisor.domain import DomainContext, render
from polyvisor.drivers.base import Driver
from polyvisor.drivers.verdict import unsupported
from tests.drivers.kit import machine

SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")


@cache
def schema() -> etree.RelaxNG:
    return etree.RelaxNG(etree.parse(str(SCHEMA)))


def rendered(driver: Driver, context: DomainContext, domain: dict[str, Any], **spec: Any) -> etree._Element:
    """Render a machine that the driver's table allows; the XML must be valid by libvirt's schema."""
    vmi = machine(driver, domain, **spec)
    assert [feature.id for feature, _, _ in unsupported(driver, vmi.spec, context.virt_type)] == []
    element = etree.fromstring(render(vmi, driver, context))
    assert schema().validate(element), schema().error_log
    return element
