"""Discs of CD-ROM drives that come and go: the drive is a disk of the machine, its disc a hotpluggable volume.

A drive whose name no volume has is empty. What a drive holds is read off the domain each time, by the file's path, so
nothing is remembered. What isn't obvious: the drive's XML is the domain's own with another source in it, since libvirt
takes no other change of a drive along.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Mapping

from lxml import etree
from lxml.etree import _Element

from polyvisor.agent.claims import ClaimKeeper
from polyvisor.agent.disks import DiskFile
from polyvisor.agent.errors import PVC_NOT_FOUND, AgentError
from polyvisor.agent.link import LauncherError, LauncherGone, Link
from polyvisor.agent.sources import Places
from polyvisor.api import Obj
from polyvisor.api.quantity import whole
from polyvisor.api.volumes import claim_of, drives, hotpluggable

Trouble = tuple[str, str]
"""The reason and the words."""


def due(vmi: Obj) -> bool:
    """Whether a drive holds, by what is told, the disc of another claim than the spec names."""
    told = {
        entry["name"]: (entry.get("persistentVolumeClaimInfo") or {}).get("claimName")
        for entry in (vmi.get("status") or {}).get("volumeStatus") or []
    }
    return any(told.get(name, claim_of(volume)) != claim_of(volume) for name, volume in _discs(vmi).items())


class Drives:
    """Puts discs in and takes them out, for one agent. Without ``places`` that is not possible on this node."""

    def __init__(self, claims: ClaimKeeper, places: Places | None, waits: Callable[[Obj], Awaitable[str]]) -> None:
        self._claims = claims
        self._places = places
        self._waits = waits

    async def settle(self, vmi: Obj, link: Link, claims: Mapping[str, Obj]) -> dict[str, Trouble]:
        """Bring each drive in line with the spec; return why that failed, by the drive's name."""
        fixed = {volume["name"] for volume in vmi["spec"].get("volumes") or [] if not hotpluggable(volume)}
        wanted, troubles = _discs(vmi), {}
        there = found(str((await link.request("describe")).get("xml")))
        for name in sorted(drives(vmi["spec"]) - fixed):
            try:
                file = await self._disc(vmi, wanted[name], claims) if name in wanted else None
                if name in there and path_of(there[name]) != (str(file.path) if file else ""):
                    await link.request("change", xml=with_disc(there[name], file))
            except LauncherGone:
                raise
            except LauncherError as error:
                troubles[name] = ("FailedAttach", str(error))
            except AgentError as error:
                troubles[name] = (error.reason, str(error))
        return troubles

    async def _disc(self, vmi: Obj, volume: Obj, claims: Mapping[str, Obj]) -> DiskFile:
        claim = claims.get(claim_of(volume))
        if self._places is None:
            raise AgentError("discs of a launcher Pod cannot be changed while it runs in this release")
        if claim is None:
            message = f"PersistentVolumeClaim {vmi['metadata']['namespace']}/{claim_of(volume)} does not exist"
            raise AgentError(message, reason=PVC_NOT_FOUND)
        if why := await self._waits(claim):
            raise AgentError(why, reason="NotAllDVsReady")
        await self._claims.bind(claim)
        return await asyncio.to_thread(self._file, self._places, vmi, volume, claim)

    @staticmethod
    def _file(places: Places, vmi: Obj, volume: Obj, claim: Obj) -> DiskFile:
        size = whole(claim["spec"]["resources"]["requests"]["storage"])
        with places.sources(vmi, places.volumes, lambda _: None, {}) as sources:
            return DiskFile(sources.claim_disk(volume["name"], claim_of(volume), int(size)).seen_at, "raw")


def found(xml: str) -> dict[str, _Element]:
    """Return the CD-ROM drives of a domain by the names that the manifest gives them."""
    domain = etree.fromstring(xml, etree.XMLParser(resolve_entities=False, no_network=True))
    aliased = ((drive.find("alias"), drive) for drive in domain.iterfind("devices/disk[@device='cdrom']"))
    return {str(alias.get("name")).removeprefix("ua-"): drive for alias, drive in aliased if alias is not None}


def path_of(drive: _Element) -> str:
    """Return the file in a drive, empty if there is none."""
    source = drive.find("source")
    return "" if source is None else str(source.get("file") or source.get("dev") or "")


def with_disc(drive: _Element, file: DiskFile | None) -> str:
    """Return the XML of a drive with another disc in it, or none."""
    changed = copy.deepcopy(drive)
    for name in ("source", "backingStore"):
        for element in changed.findall(name):
            changed.remove(element)
    changed.tail = None
    changed.set("type", "block" if file and file.block else "file")
    if file is not None:
        etree.SubElement(changed, "source", {"dev" if file.block else "file": str(file.path)})
    return etree.tostring(changed, encoding="unicode")


def _discs(vmi: Obj) -> dict[str, Obj]:
    """Return the discs that may come and go, by their drives' names."""
    named = drives(vmi["spec"])
    volumes = vmi["spec"].get("volumes") or []
    return {volume["name"]: volume for volume in volumes if volume["name"] in named and hotpluggable(volume)}
