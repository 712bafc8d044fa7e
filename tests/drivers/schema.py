"""A machine's XML for one driver, held against the driver's table and libvirt's schema."""

from __future__ import annotations

from typing import Any

from lxml import etree

from polyvisor.domain import DomainContext, render
from polyvisor.drivers.base import Driver
from polyvisor.drivers.verdict import unsupported
from polyvisor.testing.schema import flaws
from tests.drivers.kit import machine


def rendered(driver: Driver, context: DomainContext, domain: dict[str, Any], **spec: Any) -> etree._Element:
    """Render a machine that the driver's table allows; the XML must be valid."""
    vmi = machine(driver, domain, **spec)
    assert [feature.id for feature, _, _ in unsupported(driver, vmi.spec, context.virt_type)] == []
    xml = render(vmi, driver, context)
    assert flaws(xml) == []
    return etree.fromstring(xml)
