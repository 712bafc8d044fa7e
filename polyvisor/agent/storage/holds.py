"""Which claims and host disks a machine has to itself: no two machines of a node write to one at the same time.

Some hypervisors lock their images and some do not, and a root filesystem in a claim is no image; so it is held here,
for all. Nothing is written down: who has what follows from the machines that run, or are being started now, and what
came to one while it ran stands in its status; until that is written, it is remembered here. A claim with the access
mode ReadWriteMany is its user's to share, and so is a disk that says ``shareable`` in both machines.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from polyvisor.agent.errors import AgentError
from polyvisor.api import Obj
from polyvisor.api.dumps import DumpVolumePhase, dump_claim
from polyvisor.api.names import FINAL_PHASES
from polyvisor.api.reading import nested, read_status
from polyvisor.api.volumes import claim_of, passing

IN_USE = "VolumeInUse"
HELD = (None, "Ready", "Detaching", DumpVolumePhase.IN_PROGRESS)
"""Phases of a volume that its machine has; one that has none came with the machine."""
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
        self._taken: dict[str, dict[str, dict[Thing, Use]]] = {}
        self._waiting: set[str] = set()

    @contextmanager
    def starting(self, vmi: Obj, claims: Mapping[str, Obj]) -> Iterator[None]:
        """Have a machine take what it uses, until it runs; raise :class:`AgentError` if another one has it."""
        uid = vmi["metadata"]["uid"]
        if taken := self._conflict(uid, uses(vmi, claims, self._hostdisks), claims):
            self._waiting.add(uid)
            raise AgentError(taken, reason=IN_USE)
        self._starting.add(uid)
        try:
            yield
        finally:
            self._starting.discard(uid)

    def take(self, vmi: Obj, volume: Obj, claims: Mapping[str, Obj]) -> None:
        """Have a machine that runs take what one more volume uses; raise :class:`AgentError` if another one has it."""
        uid = vmi["metadata"]["uid"]
        mine = _used(vmi, [volume], claims, self._hostdisks)
        if taken := self._conflict(uid, mine, claims):
            raise AgentError(taken, reason=IN_USE)
        self._taken.setdefault(uid, {})[volume["name"]] = mine

    def keep(self, uid: str, volumes: Collection[str]) -> None:
        """Let go of what came to a machine while it ran, but for the volumes named."""
        for name in self._taken.get(uid, {}).keys() - set(volumes):
            self.release(uid, name)

    def release(self, uid: str, volume: str) -> None:
        """Let go of what one volume used."""
        self._taken.get(uid, {}).pop(volume, None)

    def forget(self, uid: str) -> None:
        """Let go of all that came to a machine that is over."""
        self._taken.pop(uid, None)

    def _conflict(self, uid: str, mine: dict[Thing, Use], claims: Mapping[str, Obj]) -> str:
        machines = [one for one in self._machines() if self._has(one, uid)] if mine else []
        return conflict(mine, ((one, self._uses(one, claims)) for one in machines))

    def _uses(self, vmi: Obj, claims: Mapping[str, Obj]) -> dict[Thing, Use]:
        found = uses(vmi, claims, self._hostdisks)
        for used in self._taken.get(vmi["metadata"]["uid"], {}).values():
            found |= used
        return found

    def waiting(self) -> set[str]:
        """Return the machines that were refused since the last call: one of those in their way is over."""
        found, self._waiting = self._waiting, set()
        return found

    def _has(self, vmi: Obj, but: str) -> bool:
        uid = vmi["metadata"]["uid"]
        if uid == but or read_status(vmi).get("phase") in FINAL_PHASES:
            return False
        return uid in self._starting or self._runs(vmi)


def uses(vmi: Obj, claims: Mapping[str, Obj], hostdisks: Path) -> dict[Thing, Use]:
    """Return what the volumes of a machine use; ``claims`` are those of its namespace, by name."""
    told = read_status(vmi).get("volumeStatus") or []
    here = {
        one["name"] for one in told if one.get("phase") in HELD and ("memoryDumpVolume" in one or one.get("target"))
    }
    volumes = vmi["spec"].get("volumes") or []
    there = [volume for volume in volumes if not passing(volume) or volume["name"] in here]
    return _used(vmi, there, claims, hostdisks)


def _used(vmi: Obj, volumes: Iterable[Obj], claims: Mapping[str, Obj], hostdisks: Path) -> dict[Thing, Use]:
    devices = nested(vmi["spec"], "domain").get("devices") or {}
    disks = {disk["name"]: disk for disk in devices.get("disks") or []}
    found: dict[Thing, Use] = {}
    for volume in volumes:
        claim = claim_of(volume) or dump_claim(volume)
        if claim and "ReadWriteMany" not in ((claims.get(claim) or {}).get("spec") or {}).get("accessModes", ()):
            thing = ("PersistentVolumeClaim", f"{vmi['metadata']['namespace']}/{claim}")
        elif disk := volume.get("hostDisk"):
            namespace = vmi["metadata"]["namespace"]
            below = str(disk["path"]).removeprefix(f"{hostdisks}/{namespace}/").split("/")
            thing = ("host disk", "/".join([namespace, *(part for part in below if part not in ("", "."))]))
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
