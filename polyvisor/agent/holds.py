"""Which claims and host disks a machine has to itself: no two machines of a node write to one at the same time.

Some hypervisors lock their images and some do not, and a root filesystem in a claim is no image; so it is held here,
for all. Nothing is written down: who has what follows from the machines that run, or are being started now. A claim
with the access mode ReadWriteMany is its user's to share, and so is a disk that says ``shareable`` in both machines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from polyvisor.agent.errors import AgentError
from polyvisor.api import Obj
from polyvisor.api.dumps import dump_claim
from polyvisor.api.names import FINAL_PHASES
from polyvisor.api.volumes import claim_of, hotpluggable

IN_USE = "VolumeInUse"
Thing = tuple[str, str]
"""What is held: its kind in words, and its name there."""


class Use(Enum):
    """How a volume is used."""

    READ = "read"
    WRITE = "write"
    SHARE = "share"


class Holds:
    """The machines of one node. ``runs`` says whether one that is not over may have its volumes open."""

    def __init__(self, machines: Callable[[], Iterable[Obj]], runs: Callable[[Obj], bool], hostdisks: Path) -> None:
        self._machines = machines
        self._runs = runs
        self._hostdisks = hostdisks
        self._starting: set[str] = set()
        self._waiting: set[str] = set()

    @contextmanager
    def starting(self, vmi: Obj, claims: Mapping[str, Obj]) -> Iterator[None]:
        """Have a machine take what it uses, until it runs; raise :class:`AgentError` if another one has it."""
        uid = vmi["metadata"]["uid"]
        mine = uses(vmi, claims, self._hostdisks)
        others = ((one, uses(one, claims, self._hostdisks)) for one in self._machines() if mine and self._has(one, uid))
        if taken := conflict(mine, others):
            self._waiting.add(uid)
            raise AgentError(taken, reason=IN_USE)
        self._starting.add(uid)
        try:
            yield
        finally:
            self._starting.discard(uid)

    def waiting(self) -> set[str]:
        """Return the machines that were refused since the last call: one of those in their way is over."""
        found, self._waiting = self._waiting, set()
        return found

    def _has(self, vmi: Obj, but: str) -> bool:
        uid = vmi["metadata"]["uid"]
        if uid == but or (vmi.get("status") or {}).get("phase") in FINAL_PHASES:
            return False
        return uid in self._starting or self._runs(vmi)


def uses(vmi: Obj, claims: Mapping[str, Obj], hostdisks: Path) -> dict[Thing, Use]:
    """Return what the volumes of a machine use; ``claims`` are those of its namespace, by name."""
    devices = (vmi["spec"].get("domain") or {}).get("devices") or {}
    disks = {disk["name"]: disk for disk in devices.get("disks") or []}
    told = {entry["name"] for entry in (vmi.get("status") or {}).get("volumeStatus") or [] if entry.get("target")}
    found: dict[Thing, Use] = {}
    for volume in vmi["spec"].get("volumes") or []:
        if hotpluggable(volume) and volume["name"] not in told:
            continue  # it is not attached yet
        claim = claim_of(volume) or dump_claim(volume)
        if claim and "ReadWriteMany" not in ((claims.get(claim) or {}).get("spec") or {}).get("accessModes", ()):
            thing = ("PersistentVolumeClaim", f"{vmi['metadata']['namespace']}/{claim}")
        elif disk := volume.get("hostDisk"):
            below = str(disk["path"]).removeprefix(f"{hostdisks}/")
            thing = ("host disk", "/".join(part for part in below.split("/") if part not in ("", ".")))
        else:
            continue
        found[thing] = _use(volume, disks.get(volume["name"]) or {})
    return found


def conflict(mine: Mapping[Thing, Use], others: Iterable[tuple[Obj, Mapping[Thing, Use]]]) -> str:
    """Return which of a machine's volumes another one has, and what to do; nothing if there is none."""
    for other, theirs in others:
        for thing, use in mine.items():
            if thing in theirs and not _together(use, theirs[thing]):
                metadata = other["metadata"]
                holder = f"VirtualMachineInstance {metadata['namespace']}/{metadata['name']}"
                return (
                    f"{thing[0]} {thing[1]} is in use by {holder}, which has it to itself; waiting for its end."
                    " Disks that machines may share say shareable: true in each"
                )
    return ""


def _use(volume: Obj, disk: Obj) -> Use:
    if disk.get("shareable"):
        return Use.SHARE
    target = disk.get("disk") or disk.get("lun") or {}
    reads = "ephemeral" in volume or disk.get("cdrom") is not None or target.get("readonly")
    return Use.READ if reads else Use.WRITE


def _together(one: Use, other: Use) -> bool:
    return one == other and one is not Use.WRITE
