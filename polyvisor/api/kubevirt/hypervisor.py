"""Polyvisor's own fields: which hypervisor a machine wants, and which it got.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

from typing import Annotated

from polyvisor.api.base import Model, OneOf
from polyvisor.api.core.meta import LabelSelector


class HypervisorReason(Model):
    """One thing that speaks against a driver."""

    field: str | None = None
    feature: str | None = None
    message: str


class HypervisorCandidate(Model):
    """A driver that was considered for a machine."""

    driver: str
    verdict: Annotated[str, OneOf("Chosen", "Eligible", "Unsupported", "NotEnabled", "NoNode", "Unschedulable")]
    endpoint: str | None = None
    reasons: list[HypervisorReason] | None = None


class HypervisorChoice(Model):
    """What a machine asks of its hypervisor; absent means any driver that the cluster enables, best first."""

    driver: str | None = None
    any_of: list[str] | None = None
    virt_type: str | None = None
    endpoint: str | None = None


class HypervisorDefault(Model):
    """A hypervisor for the machines of some namespaces that name none."""

    namespace_selector: LabelSelector
    hypervisor: HypervisorChoice


class HypervisorDomain(Model):
    """A libvirt domain on the host of an endpoint."""

    name: str
    uuid: str


class HypervisorStatus(Model):
    """Which hypervisor runs a machine, and why."""

    driver: str | None = None
    virt_type: str | None = None
    version: str | None = None
    libvirt_version: str | None = None
    endpoint: str | None = None
    domain: HypervisorDomain | None = None
    candidates: list[HypervisorCandidate] | None = None
