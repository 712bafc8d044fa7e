"""Disks of a running machine that come and go: what its spec wants of them against what its domain has.

A volume that is not hotpluggable stays as long as the machine. So a disk of ours that the domain has and the spec does
not name is one that shall go, and nothing has to be remembered about it. What isn't obvious: the guest lets go of a
disk in its own time, so a disk that is leaving is looked at again and asked again. Where the claims are,
and how a launcher gets to see them, is for :class:`Shelves` to know.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from polyvisor.agent.errors import AgentError, NoSuchClaim, translated
from polyvisor.agent.files import giving, safepath
from polyvisor.agent.link.connection import LauncherError, LauncherGone, Link
from polyvisor.agent.live import described, render
from polyvisor.agent.storage import disks
from polyvisor.agent.storage.claims import ClaimKeeper
from polyvisor.agent.storage.disks import DiskFile
from polyvisor.agent.storage.dump_files import PART, DumpFile, dump_file
from polyvisor.agent.storage.holds import Holds
from polyvisor.agent.storage.sources import Places
from polyvisor.api import Obj
from polyvisor.api.quantity import whole
from polyvisor.api.reading import read_status
from polyvisor.api.volumes import claim_of, drives, hotpluggable
from polyvisor.drivers.base import Driver

READY, PENDING, BOUND, ATTACHED, MOUNTED, DETACHING = (
    "Ready",
    "Pending",
    "Bound",
    "AttachedToNode",
    "MountedToPod",
    "Detaching",
)
LEAVING = "the guest was asked to let go of the volume"
LOOK_SECONDS = 2.0
"""How soon to look again at what is not settled: a guest that lets go of a disk tells by an event, or never."""


Waits = Callable[[Obj], Awaitable[str]]
"""Says why a claim cannot be used yet, or nothing."""


class NotYet(AgentError):
    """A disk cannot come yet; ``phase`` is how far it is."""

    def __init__(self, phase: str, reason: str, message: str, *, waits: bool = False) -> None:
        super().__init__(message, reason=reason)
        self.phase = phase
        self.waits = waits


class Trouble(NamedTuple):
    """Why a disk is not there, and how far it is; one that ``waits`` for others only is no news."""

    phase: str
    reason: str
    message: str
    waits: bool = False


@dataclass
class Outcome:
    """What became of a machine's disks: those that could not be attached and why, and those that are leaving."""

    troubles: dict[str, Trouble] = field(default_factory=dict)
    leaving: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Runner:
    """A machine that runs: its Pod, its launcher, and the launcher's folder as the launcher has it."""

    vmi: Obj
    pod: Obj
    driver: Driver
    link: Link
    folder: Path


class Shelves(Protocol):
    """Who brings the disks that come, and clears away those that went. All that fails raises :class:`AgentError`."""

    brought: str
    """How far a disk is that was brought and could not be attached."""

    def holders(self, vmi: Obj, pod: Obj) -> Mapping[str, Mapping[str, str]]:
        """Return what the status tells, for each volume that may come and go, of the Pod that has its claim."""

    async def bring(self, runner: Runner, volume: Obj, claim: Obj) -> DiskFile:
        """Return the disk of a volume, where the hypervisor finds it."""

    async def clear(self, runner: Runner, kept: Collection[str]) -> None:
        """Let go of all disks that came but the files and devices ``kept``, as the hypervisor finds them."""

    async def dump_file(self, runner: Runner, volume: Obj, claim: Obj, name: str) -> DumpFile:
        """Make the file for a memory dump in a volume's claim, where the launcher finds it."""

    async def forget_dump(self, runner: Runner, volume: str) -> None:
        """Let go of what a former agent left of a memory dump."""


def due(vmi: Obj, holders: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether a running machine's disks may differ from what its spec wants, or are told of wrongly."""
    wanted = {volume["name"] for volume in vmi["spec"].get("volumes") or [] if hotpluggable(volume)}
    told = {
        entry["name"]: entry
        for entry in read_status(vmi).get("volumeStatus") or []
        if "hotplugVolume" in entry and "memoryDumpVolume" not in entry
    }
    if told.keys() != wanted:
        return True
    return any(
        entry.get("phase") != READY or (holders.get(name) and dict(holders[name]) != entry["hotplugVolume"])
        for name, entry in told.items()
    )


class Plugger:
    """Attaches and detaches, for one agent. ``waits`` says why a claim cannot be used yet."""

    def __init__(self, shelves: Shelves, waits: Waits, holds: Holds) -> None:
        self.shelves = shelves
        self._waits = waits
        self._holds = holds

    async def settle(self, runner: Runner, claims: Mapping[str, Obj]) -> Outcome:
        """Take the next step with each disk that is not as the spec wants it."""
        outcome = Outcome()
        vmi, link = runner.vmi, runner.link
        xml = await self.clear(runner)
        have, units = described.disks(xml), described.units(xml)
        volumes = {volume["name"]: volume for volume in vmi["spec"].get("volumes") or []}
        self._holds.keep(vmi["metadata"]["uid"], have)
        for name, target in have.items():
            if name not in volumes and name not in drives(vmi["spec"]):
                outcome.leaving[name] = target
                await link.request("detach", alias=f"ua-{name}")
        taken = set(have.values())
        for name, volume in volumes.items():
            if hotpluggable(volume) and name not in have:
                try:
                    plugged = await self._attach(runner, volume, claims, taken, units)
                    taken.add(plugged.target)
                    if plugged.unit is not None:
                        units.add(plugged.unit)
                except LauncherGone:
                    raise
                except NotYet as error:
                    outcome.troubles[name] = Trouble(error.phase, error.reason, str(error), error.waits)
                except LauncherError as error:
                    outcome.troubles[name] = Trouble(self.shelves.brought, "FailedAttach", str(error))
                except AgentError as error:
                    outcome.troubles[name] = Trouble(PENDING, error.reason, str(error))
        return outcome

    async def clear(self, runner: Runner) -> str:
        """Clear away the disks that the domain does not have; return what it is like."""
        xml = str((await runner.link.request("describe")).get("xml"))
        await self.shelves.clear(runner, described.sources(xml))
        return xml

    async def _attach(
        self, runner: Runner, volume: Obj, claims: Mapping[str, Obj], taken: set[str], units: set[int]
    ) -> render.Plugged:
        vmi, name = runner.vmi, volume["name"]
        with self.taking(runner, volume, claims):
            file = await self.brought(runner, volume, claims)
            plugged = await asyncio.to_thread(
                render.disk_xml, vmi, runner.driver, name, file, taken, runner.folder, units
            )
            await runner.link.request("attach", xml=plugged.xml)
        return plugged

    @contextmanager
    def taking(self, runner: Runner, volume: Obj, claims: Mapping[str, Obj]) -> Iterator[None]:
        """Have the machine take a volume, unless that fails or another machine has it."""
        self._holds.take(runner.vmi, volume, claims)
        try:
            yield
        except BaseException:
            self._holds.release(runner.vmi["metadata"]["uid"], volume["name"])
            raise

    async def brought(self, runner: Runner, volume: Obj, claims: Mapping[str, Obj]) -> DiskFile:
        """Return the disk of a volume once its claim is there and filled."""
        claim = claims.get(claim_of(volume))
        if claim is None:
            raise NoSuchClaim(runner.vmi["metadata"]["namespace"], claim_of(volume))
        if why := await self._waits(claim):
            raise AgentError(why, reason="NotAllDVsReady")
        return await self.shelves.bring(runner, volume, claim)


class NodeShelves:
    """The claims of a node without a kubelet: folders of the node, which hypervisors find where they are."""

    brought = PENDING

    def __init__(self, claims: ClaimKeeper, places: Places) -> None:
        self._claims = claims
        self._places = places

    def holders(self, vmi: Obj, pod: Obj) -> Mapping[str, Mapping[str, str]]:
        """Return nothing: no Pod has the claims."""
        return {}

    async def bring(self, runner: Runner, volume: Obj, claim: Obj) -> DiskFile:
        """Return the claim's disk image."""
        await self._claims.bind(claim)
        return await asyncio.to_thread(self._disk, runner, volume, claim)

    def _disk(self, runner: Runner, volume: Obj, claim: Obj) -> DiskFile:
        size = whole(claim["spec"]["resources"]["requests"]["storage"])
        places = self._places.of(_other(runner.link), runner.folder)
        with places.sources(runner.vmi, runner.folder, lambda _: None, {}) as sources:
            return DiskFile(sources.claim_disk(volume["name"], claim_of(volume), int(size)).seen_at, "raw")

    async def clear(self, runner: Runner, kept: Collection[str]) -> None:
        """There is nothing to clear away."""

    async def dump_file(self, runner: Runner, volume: Obj, claim: Obj, name: str) -> DumpFile:
        """Make the file in the claim's folder; the launcher opens it as this agent has it, another user by its name."""
        await self._claims.bind(claim)
        return await asyncio.to_thread(self._dump_file, claim, name, _other(runner.link))

    def _dump_file(self, claim: Obj, name: str, owner: int | None) -> DumpFile:
        volumes, metadata = self._places.volumes, claim["metadata"]
        names = [metadata["namespace"], metadata["name"]]
        place = disks.claim_folder(volumes, *names)
        with (
            translated(volumes, f"dumping into claim {'/'.join(names)}"),
            safepath.opened_root(volumes) as top,
            safepath.walk(top, names) as folder,
        ):
            if owner is None:
                return dump_file(folder, name)
            giving.show_folder(volumes, place)
            made = dump_file(folder, name, owner)
            made.path = f"{place}/{name}{PART}"
            return made

    async def forget_dump(self, runner: Runner, volume: str) -> None:
        """There is nothing to let go of."""


def _other(link: Link) -> int | None:
    """Return the user of a launcher that is another one than this process's."""
    return link.user if link.user != os.geteuid() else None


def tell(vmi: Obj, found: Obj, outcome: Outcome, holders: Mapping[str, Mapping[str, str]]) -> None:
    """Add to what is told of a machine's volumes how those stand that come and go. In place."""
    volumes = {volume["name"]: volume for volume in vmi["spec"].get("volumes") or []}
    for entry in found["volumeStatus"]:
        name = entry["name"]
        if not hotpluggable(volumes[name]):
            continue
        entry["hotplugVolume"] = dict(holders.get(name) or {})
        if entry.get("target") and name not in outcome.troubles:
            entry["phase"], entry["reason"] = READY, "VolumeReady"
            entry["message"] = f"Successfully attach hotplugged volume {name} to VM"
        else:
            waiting = Trouble(PENDING, "Waiting", "the volume is being attached")
            entry["phase"], entry["reason"], entry["message"], _ = outcome.troubles.get(name, waiting)
    for name, target in outcome.leaving.items():
        found["volumeStatus"].append(
            {
                "name": name,
                "target": target,
                "phase": DETACHING,
                "reason": "VolumeUnplugging",
                "message": outcome.troubles[name].message if name in outcome.troubles else LEAVING,
                "hotplugVolume": dict(holders.get(name) or {}),
            }
        )
