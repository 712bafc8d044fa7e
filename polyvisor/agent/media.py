"""Discs of CD-ROM drives that come and go: the drive is a disk of the machine, its disc a hotpluggable volume.

A drive whose name no volume has is empty. What a drive holds is read off the domain each time, by the file's path, so
nothing is remembered. What isn't obvious: the drive's XML is the domain's own with another source in it, since libvirt
takes no other change of a drive along.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

from lxml import etree
from lxml.etree import _Element

from polyvisor.agent.described import parsed
from polyvisor.agent.disks import DiskFile
from polyvisor.agent.errors import AgentError
from polyvisor.agent.hotplug import Runner, Shelves, Waits, brought
from polyvisor.agent.link import LauncherError, LauncherGone
from polyvisor.api import Obj
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
    """Puts discs in and takes them out, for one agent. Without ``shelves`` that is not possible on this node."""

    def __init__(self, shelves: Shelves | None, waits: Waits) -> None:
        self._shelves = shelves
        self._waits = waits

    async def settle(self, runner: Runner, claims: Mapping[str, Obj]) -> dict[str, Trouble]:
        """Bring each drive in line with the spec; return why that failed, by the drive's name."""
        vmi, link = runner.vmi, runner.link
        fixed = {volume["name"] for volume in vmi["spec"].get("volumes") or [] if not hotpluggable(volume)}
        wanted, troubles = _discs(vmi), {}
        there = found(str((await link.request("describe")).get("xml")))
        for name in sorted(drives(vmi["spec"]) - fixed):
            try:
                file = await self._disc(runner, wanted[name], claims) if name in wanted else None
                if name in there and path_of(there[name]) != (str(file.path) if file else ""):
                    await link.request("change", xml=with_disc(there[name], file))
            except LauncherGone:
                raise
            except LauncherError as error:
                troubles[name] = ("FailedAttach", str(error))
            except AgentError as error:
                troubles[name] = (error.reason, str(error))
        return troubles

    async def _disc(self, runner: Runner, volume: Obj, claims: Mapping[str, Obj]) -> DiskFile:
        if self._shelves is None:
            raise AgentError("discs of a launcher Pod cannot be changed while it runs in this release")
        return await brought(self._shelves, self._waits, runner, volume, claims)


def found(xml: str) -> dict[str, _Element]:
    """Return the CD-ROM drives of a domain by the names that the manifest gives them."""
    aliased = ((drive.find("alias"), drive) for drive in parsed(xml).iterfind("devices/disk[@device='cdrom']"))
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
