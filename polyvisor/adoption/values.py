"""What a conversion is given beside the XML, and what it returns: plain values."""

from __future__ import annotations

from collections.abc import Mapping as Table
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from polyvisor.api import Obj, Problem

if TYPE_CHECKING:
    from polyvisor.admission.explanation import Explanation

POD = "pod"
"""The name of the Pod's network in a :class:`NetworkMapping`."""


class ConversionError(ValueError):
    """The text is not the XML of domains, or no driver is known for one; the message is for the user."""


class Outcome(StrEnum):
    """What became of one setting of a domain.

    ``KEPT``: the machine has it. ``CHANGED``: the machine has something else in its place. ``BESIDE``: the machine does
    not have it, as no field of the API expresses it. ``CHOSEN``: libvirt or Polyvisor chooses it again at each start.
    """

    KEPT = "kept"
    CHANGED = "changed"
    BESIDE = "not expressible"
    CHOSEN = "chosen again"


@dataclass(frozen=True, slots=True)
class Note:
    """What became of one attribute or text of the domain's XML.

    ``path`` is an XPath below the domain (``devices/disk[1]/driver/@cache``). ``text`` is the field that holds the
    value, what stands in its place, or why it cannot be expressed.
    """

    path: str
    value: str
    outcome: Outcome
    text: str = ""


@dataclass(frozen=True, slots=True)
class PoolMapping:
    """Which StorageClass stands for a libvirt storage pool.

    ``path`` is the folder of the host in which the pool's volumes lie, by which disks that name a file are found; empty
    if disks name the pool itself.
    """

    storage_class: str
    pool: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class NetworkMapping:
    """Which network of the cluster stands for one of the host's.

    ``name`` is ``pod`` or a NetworkAttachmentDefinition (``NAME`` or ``NAMESPACE/NAME``); ``network`` is the libvirt
    network, bridge, port group or switch that the domain's interface names.
    """

    name: str
    network: str


@dataclass(frozen=True, slots=True)
class Mapping:
    """Everything that the XML of a domain does not say.

    ``namespace`` is the machine's; ``name`` its name, by default made of the domain's. ``driver`` is the driver, by
    default found by the domain's type. ``endpoint`` is the HypervisorEndpoint on whose host the disks are; empty if
    there is none. ``sizes`` are the capacities of disks in bytes, by what the XML names: path, or ``POOL/VOLUME``.
    ``kernel_image`` is a container image that has the domain's kernel and initrd at the paths that the XML names.
    ``pools`` are all pools of the endpoint's host and their folders, where the domain is one of that host.
    """

    namespace: str = "default"
    name: str = ""
    driver: str = ""
    endpoint: str = ""
    storage: tuple[PoolMapping, ...] = ()
    networks: tuple[NetworkMapping, ...] = ()
    sizes: Table[str, int] = field(default_factory=dict)
    kernel_image: str = ""
    pools: Table[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Conversion:
    """One domain as a VirtualMachine.

    ``machine`` is the manifest, which is not to be started by itself (``runStrategy: Halted``): the domain may be
    running. ``volumes`` and ``claims`` are the PersistentVolumes and PersistentVolumeClaims of its disks, in the order
    of ``machine``'s volumes. ``kept`` is what the machine does not have: path below the domain -> value; it is also in
    the machine's annotation. ``problems`` say what has to be mapped before the machine can be created.
    ``explanation`` is admission's verdict on ``machine``.
    """

    domain: str
    uuid: str
    driver: str
    machine: Obj
    volumes: tuple[Obj, ...]
    claims: tuple[Obj, ...]
    kept: dict[str, str]
    notes: tuple[Note, ...]
    problems: tuple[Problem, ...]
    explanation: Explanation

    @property
    def causes(self) -> tuple[str, ...]:
        """Why the machine cannot be created or cannot run, one sentence each; empty if it can."""
        lacks = (lack for verdict in self.explanation.drivers if verdict.allowed for lack in verdict.lacks)
        return (
            *map(str, self.problems),
            *map(str, self.explanation.problems),
            *(f"{lack.fields[0]}: {lack.message}" for lack in lacks),
        )
