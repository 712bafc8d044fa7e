"""Polyvisor's own fields: which hypervisor a machine wants, and which it got.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

from typing import Annotated

from polyvisor.api.base import Model, OneOf


class HypervisorReason(Model):
    """``HypervisorReason`` of Polyvisor's API."""

    field: str | None = None
    feature: str | None = None
    message: str


class HypervisorCandidate(Model):
    """``HypervisorCandidate`` of Polyvisor's API."""

    driver: str
    verdict: Annotated[str, OneOf("Chosen", "Eligible", "Unsupported", "NotEnabled", "NoNode", "Unschedulable")]
    reasons: list[HypervisorReason] | None = None


class HypervisorChoice(Model):
    """``HypervisorChoice`` of Polyvisor's API."""

    driver: str | None = None
    any_of: list[str] | None = None
    virt_type: str | None = None


class HypervisorStatus(Model):
    """``HypervisorStatus`` of Polyvisor's API."""

    driver: str | None = None
    virt_type: str | None = None
    version: str | None = None
    libvirt_version: str | None = None
    endpoint: str | None = None
    candidates: list[HypervisorCandidate] | None = None
