"""CPU, memory and resources.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

from polyvisor.api.base import Int64, Model, Quantity


class CPUFeature(Model):
    """``CPUFeature`` of KubeVirt's API."""

    name: str
    policy: str | None = None


class NUMAGuestMappingPassthrough(Model):
    """``NUMAGuestMappingPassthrough`` of KubeVirt's API."""


class NUMA(Model):
    """``NUMA`` of KubeVirt's API."""

    guest_mapping_passthrough: NUMAGuestMappingPassthrough | None = None


class Realtime(Model):
    """``Realtime`` of KubeVirt's API."""

    mask: str | None = None


class CPU(Model):
    """``CPU`` of KubeVirt's API."""

    cores: Int64 | None = None
    dedicated_cpu_placement: bool | None = None
    features: list[CPUFeature] | None = None
    isolate_emulator_thread: bool | None = None
    max_sockets: Int64 | None = None
    model: str | None = None
    numa: NUMA | None = None
    realtime: Realtime | None = None
    sockets: Int64 | None = None
    threads: Int64 | None = None


class Hugepages(Model):
    """``Hugepages`` of KubeVirt's API."""

    page_size: str | None = None


class ReservedOverhead(Model):
    """``ReservedOverhead`` of KubeVirt's API."""

    added_overhead: Quantity | None = None
    mem_lock: str | None = None


class Memory(Model):
    """``Memory`` of KubeVirt's API."""

    guest: Quantity | None = None
    hugepages: Hugepages | None = None
    max_guest: Quantity | None = None
    reserved_overhead: ReservedOverhead | None = None


class ResourceRequirements(Model):
    """``ResourceRequirements`` of KubeVirt's API."""

    limits: dict[str, Quantity] | None = None
    overcommit_guest_overhead: bool | None = None
    requests: dict[str, Quantity] | None = None


class ResourceRequirementsWithoutClaims(Model):
    """``ResourceRequirementsWithoutClaims`` of KubeVirt's API."""

    limits: dict[str, Quantity] | None = None
    requests: dict[str, Quantity] | None = None


class MemoryStatus(Model):
    """``MemoryStatus`` of KubeVirt's API."""

    guest_at_boot: Quantity | None = None
    guest_current: Quantity | None = None
    guest_requested: Quantity | None = None
    memory_overhead: Quantity | None = None


class TopologyHints(Model):
    """``TopologyHints`` of KubeVirt's API."""

    tsc_frequency: Int64 | None = None
