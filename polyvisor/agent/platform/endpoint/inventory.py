"""What a launcher tells of its host and the domains there, as values whose types are checked.

A domain is known by its UUID and by the id that its host gave it, together, since some hosts' UUIDs changed with a
release of libvirt. It is managed if its mark names this installation, and foreign otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from polyvisor.drivers.base import Cpus

MAX_NAME = 255
STATES = ("running", "paused", "shutdown", "shutoff", "crashed", "unknown")
ENDINGS = ("shutdown", "destroyed", "crashed", "failed")
ACTIVE = ("running", "paused", "shutdown")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_VERSION = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6}){0,3}")
_ATTRIBUTE = re.compile(r"""\b(cluster|machine|adopted)=['"]([^'"<>]{1,128})['"]""")


@dataclass(frozen=True, slots=True)
class HostInfo:
    """A host as its connection shows it. Sizes in bytes; ``events``: whether libvirt tells what changes there.

    ``capabilities`` is libvirt's description of the host, in XML; ``guest_cpus`` what guests can have there.
    """

    type: str = ""
    libvirt_version: str = ""
    hypervisor_version: str = ""
    host_name: str = ""
    uuid: str = ""
    cpus: int = 0
    memory: int = 0
    encrypted: bool = False
    events: bool = False
    capabilities: str = ""
    guest_cpus: Cpus | None = None


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain of a host. ``memory`` in bytes; ``owner`` is the installation that its mark names.

    ``machine`` is the uid of the VirtualMachineInstance that the mark names, ``adopted`` whether the domain was there
    before it; ``ending`` is how a domain that is shut off ended: ``shutdown``, ``destroyed``, ``crashed``, ``failed``.
    ``agent``: an agent inside the guest is connected, where that was asked for.
    """

    uuid: str
    name: str
    id: int
    state: str
    vcpus: int
    memory: int
    persistent: bool = True
    owner: str = ""
    machine: str = ""
    adopted: bool = False
    ending: str = ""
    agent: bool = False

    @property
    def active(self) -> bool:
        """Whether it uses the host's CPUs and memory."""
        return self.state in ACTIVE


def host_of(told: dict[str, Any]) -> HostInfo:
    """Return a host from the answer to ``connect``."""
    return HostInfo(
        _text(told.get("type")).lower(),
        _version(told.get("libvirtVersion")),
        _version(told.get("hypervisorVersion")),
        _text(told.get("hostName")),
        _uuid(told.get("hostUUID")),
        _number(told.get("cpus")),
        _number(told.get("memoryBytes")),
        told.get("encrypted") is True,
        told.get("events") is True,
        told["capabilities"] if isinstance(told.get("capabilities"), str) else "",
    )


def domains_of(told: Any) -> list[Domain]:
    """Return the domains of one answer; what is no domain is left out."""
    found = (domain_of(one) for one in (told if isinstance(told, list) else ()))
    return [one for one in found if one is not None]


def domain_of(told: Any) -> Domain | None:
    """Return one domain as a launcher tells of it, None for what is no domain."""
    if not isinstance(told, dict) or not (uuid := _uuid(told.get("uuid"))):
        return None
    state, mark = told.get("state"), dict(_ATTRIBUTE.findall(_text(told.get("mark"))))
    return Domain(
        uuid,
        _text(told.get("name")),
        told["id"] if _number(told.get("id")) == told.get("id") else -1,
        state if state in STATES else "unknown",
        _number(told.get("vcpus")),
        _number(told.get("memoryBytes")),
        told.get("persistent") is True,
        mark.get("cluster", ""),
        mark.get("machine", ""),
        mark.get("adopted") == "yes",
        told["reason"] if told.get("reason") in ENDINGS else "",
        told.get("agent") is True,
    )


def used(domains: Iterable[Domain]) -> tuple[int, int]:
    """Return the CPUs and the bytes of memory that active domains have."""
    active = [domain for domain in domains if domain.active]
    return sum(domain.vcpus for domain in active), sum(domain.memory for domain in active)


def _text(value: Any) -> str:
    return "".join(c for c in value[:MAX_NAME] if c.isprintable()) if isinstance(value, str) else ""


def _version(value: Any) -> str:
    return value if isinstance(value, str) and _VERSION.fullmatch(value) else ""


def _uuid(value: Any) -> str:
    text = value.lower() if isinstance(value, str) else ""
    return text if _UUID.fullmatch(text) else ""


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62 else 0
