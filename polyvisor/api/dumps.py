"""Memory dumps: KubeVirt's names for how far one is, and what several layers ask about them."""

from __future__ import annotations

from enum import StrEnum

from polyvisor.api.base import Obj
from polyvisor.api.quantity import whole
from polyvisor.api.reading import nested

CLAIM_ANNOTATION = "kubevirt.io/memory-dump"
"""On a claim: the name of the file with the last memory dump, or that it failed."""
DUMP_ROOM = 100 * 1024 * 1024
"""What a memory dump holds beside the guest's memory, as KubeVirt reckons it."""
FILESYSTEM_SHARE = 1.055
"""What a file system wants of a claim's size for itself, as KubeVirt reckons it."""


class DumpPhase(StrEnum):
    """Phases of a VirtualMachine's ``status.memoryDumpRequest``."""

    ASSOCIATING = "Associating"
    IN_PROGRESS = "InProgress"
    UNMOUNTING = "Unmounting"
    COMPLETED = "Completed"
    DISSOCIATING = "Dissociating"
    FAILED = "Failed"


class DumpVolumePhase(StrEnum):
    """Phases of a volume of an instance that takes a memory dump."""

    IN_PROGRESS = "MemoryDumpInProgress"
    COMPLETED = "MemoryDumpCompleted"
    FAILED = "MemoryDumpFailed"


def dump_claim(volume: Obj) -> str:
    """Return the name of the claim that a volume has the machine's memory dumped into, empty if it does not."""
    return str(nested(volume, "memoryDump").get("claimName") or "")


def dump_size(vmi: Obj) -> int:
    """Return how large a claim has to be to take an instance's memory dump."""
    domain = vmi["spec"]["domain"]
    requested = nested(domain, "resources", "requests").get("memory")
    memory = nested(domain, "memory").get("guest") or requested or 0
    return int((whole(memory) + DUMP_ROOM) * FILESYSTEM_SHARE)
