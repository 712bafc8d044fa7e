"""CPUs that are added to a domain, by libvirt's own driver for tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import libvirt
import pytest

from polyvisor.launcher.attached import cpus
from polyvisor.launcher.machine import Refused

XML = """<domain type='test'><name>grows</name><memory>65536</memory><vcpu current='1'>2</vcpu>
<os><type>hvm</type></os></domain>"""


class Machine:
    def __init__(self, domain: Any) -> None:
        self._domain = domain

    def domain(self) -> Any:
        return self._domain


@pytest.fixture
def domain() -> Iterator[Any]:
    connection = libvirt.open("test:///default")
    try:
        yield connection.createXML(XML)
    finally:
        connection.close()


def test_a_domain_gets_cpus_of_those_that_it_may_come_to_have(domain: Any) -> None:
    machine: Any = Machine(domain)
    assert domain.vcpusFlags(libvirt.VIR_DOMAIN_AFFECT_LIVE) == 1
    cpus(machine, 2)
    assert domain.vcpusFlags(libvirt.VIR_DOMAIN_AFFECT_LIVE) == 2
    with pytest.raises(libvirt.libvirtError):
        cpus(machine, 3)


@pytest.mark.parametrize("count", [None, "2", True, 0, -1])
def test_what_is_no_number_of_cpus_is_refused(domain: Any, count: Any) -> None:
    machine: Any = Machine(domain)
    with pytest.raises(Refused, match="a number of CPUs"):
        cpus(machine, count)
