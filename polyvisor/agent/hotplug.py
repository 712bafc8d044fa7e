"""Disks of a running machine that come and go: what its spec wants of them against what its domain has.

A volume that is not hotpluggable stays as long as the machine. So a disk of ours that the domain has and the spec does
not name is one that shall go, and nothing has to be remembered about it. What isn't obvious: the guest lets go of a
disk in its own time, so a disk that is leaving is looked at again and asked again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from polyvisor.agent import described, render
from polyvisor.agent.claims import ClaimKeeper
from polyvisor.agent.disks import DiskFile
from polyvisor.agent.errors import PVC_NOT_FOUND, AgentError
from polyvisor.agent.link import LauncherError, LauncherGone, Link
from polyvisor.agent.sources import Places
from polyvisor.api import Obj
from polyvisor.api.quantity import whole
from polyvisor.api.volumes import claim_of, drives, hotpluggable
from polyvisor.drivers.base import Driver

READY, PENDING, DETACHING = "Ready", "Pending", "Detaching"
LOOK_SECONDS = 2.0
"""How soon to look again at what is not settled: a guest that lets go of a disk tells by an event, or never."""


@dataclass
class Outcome:
    """What became of a machine's disks: those that could not be attached and why, and those that are leaving."""

    troubles: dict[str, tuple[str, str]] = field(default_factory=dict)
    leaving: dict[str, str] = field(default_factory=dict)


def due(vmi: Obj) -> bool:
    """Whether a running machine's disks may differ from what its spec wants."""
    wanted = {volume["name"] for volume in vmi["spec"].get("volumes") or [] if hotpluggable(volume)}
    told = {
        entry["name"]: entry.get("phase")
        for entry in (vmi.get("status") or {}).get("volumeStatus") or []
        if "hotplugVolume" in entry
    }
    return told.keys() != wanted or any(phase != READY for phase in told.values())


class Plugger:
    """Attaches and detaches, for one agent.

    ``waits`` says why a claim cannot be used yet; without ``places`` nothing can be attached on this node.
    """

    def __init__(self, claims: ClaimKeeper, places: Places | None, waits: Callable[[Obj], Awaitable[str]]) -> None:
        self._claims = claims
        self._places = places
        self._waits = waits

    async def settle(self, vmi: Obj, driver: Driver, link: Link, folder: Path, claims: Mapping[str, Obj]) -> Outcome:
        """Take the next step with each disk that is not as the spec wants it."""
        outcome = Outcome()
        xml = str((await link.request("describe")).get("xml"))
        have = described.disks(xml)
        volumes = {volume["name"]: volume for volume in vmi["spec"].get("volumes") or []}
        for name, target in have.items():
            if name not in volumes and name not in drives(vmi["spec"]):
                outcome.leaving[name] = target
                await link.request("detach", alias=f"ua-{name}")
        taken = set(have.values())
        for name, volume in volumes.items():
            if hotpluggable(volume) and name not in have:
                try:
                    taken.add(await self._attach(vmi, driver, link, folder, volume, claims, taken))
                except LauncherGone:
                    raise
                except LauncherError as error:
                    outcome.troubles[name] = ("FailedAttach", str(error))
                except AgentError as error:
                    outcome.troubles[name] = (error.reason, str(error))
        return outcome

    async def _attach(
        self,
        vmi: Obj,
        driver: Driver,
        link: Link,
        folder: Path,
        volume: Obj,
        claims: Mapping[str, Obj],
        taken: set[str],
    ) -> str:
        name, claim = volume["name"], claims.get(claim_of(volume))
        if claim is None:
            namespace = vmi["metadata"]["namespace"]
            message = f"PersistentVolumeClaim {namespace}/{claim_of(volume)} does not exist"
            raise AgentError(message, reason=PVC_NOT_FOUND)
        if why := await self._waits(claim):
            raise AgentError(why, reason="NotAllDVsReady")
        await self._claims.bind(claim)
        file = await asyncio.to_thread(self._disk, vmi, volume, claim, folder)
        xml, target = await asyncio.to_thread(render.disk_xml, vmi, driver, name, file, taken, folder)
        await link.request("attach", xml=xml)
        return target

    def _disk(self, vmi: Obj, volume: Obj, claim: Obj, folder: Path) -> DiskFile:
        if self._places is None:
            raise AgentError("disks of a launcher Pod cannot come while it runs in this release")
        size = whole(claim["spec"]["resources"]["requests"]["storage"])
        with self._places.sources(vmi, folder, lambda _: None, {}) as sources:
            return DiskFile(sources.claim_disk(volume["name"], claim_of(volume), int(size)).seen_at, "raw")


def tell(vmi: Obj, found: Obj, outcome: Outcome) -> None:
    """Add to what is told of a machine's volumes how those stand that come and go. In place."""
    volumes = {volume["name"]: volume for volume in vmi["spec"].get("volumes") or []}
    for entry in found["volumeStatus"]:
        name = entry["name"]
        if not hotpluggable(volumes[name]):
            continue
        entry["hotplugVolume"] = {}
        if entry.get("target") and name not in outcome.troubles:
            entry["phase"], entry["reason"] = READY, "VolumeReady"
            entry["message"] = f"Successfully attach hotplugged volume {name} to VM"
        else:
            entry["phase"] = PENDING
            entry["reason"], entry["message"] = outcome.troubles.get(name, ("Waiting", "the volume is being attached"))
    for name, target in outcome.leaving.items():
        found["volumeStatus"].append(
            {
                "name": name,
                "target": target,
                "phase": DETACHING,
                "reason": "VolumeUnplugging",
                "message": "the guest was asked to let go of the volume",
                "hotplugVolume": {},
            }
        )
