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

from polyvisor.agent.errors import AgentError
from polyvisor.agent.link.connection import LauncherError, LauncherGone
from polyvisor.agent.live.described import parsed
from polyvisor.agent.live.hotplug import PENDING, NotYet, Outcome, Plugger, Runner, Trouble
from polyvisor.agent.storage.disks import DiskFile
from polyvisor.api import Obj
from polyvisor.api.reading import nested, read_status
from polyvisor.api.volumes import claim_of, drives, hotpluggable


def due(vmi: Obj) -> bool:
    """Whether a drive holds, by what is told, the disc of another claim than the spec names."""
    told = {
        entry["name"]: nested(entry, "persistentVolumeClaimInfo").get("claimName")
        for entry in read_status(vmi).get("volumeStatus") or []
    }
    return any(told.get(name, claim_of(volume)) != claim_of(volume) for name, volume in _discs(vmi).items())


class Drives:
    """Puts discs in and takes them out, for one agent, which brings them as it brings disks."""

    def __init__(self, plugger: Plugger) -> None:
        self._plugger = plugger

    async def settle(self, runner: Runner, claims: Mapping[str, Obj]) -> Outcome:
        """Bring each drive in line with the spec; return why that failed, and which discs shall leave and have not."""
        vmi, link, outcome = runner.vmi, runner.link, Outcome()
        fixed = {volume["name"] for volume in vmi["spec"].get("volumes") or [] if not hotpluggable(volume)}
        wanted, changed = _discs(vmi), False
        there = found(str((await link.request("describe")).get("xml")))
        for name in sorted(there.keys() & drives(vmi["spec"]) - fixed):
            try:
                if name in wanted:
                    changed |= await self._put(runner, there[name], wanted[name], claims)
                elif path_of(there[name]):
                    outcome.leaving[name] = target_of(there[name])
                    await link.request("change", xml=with_disc(there[name], None))
                    del outcome.leaving[name]
                    changed = True
            except LauncherGone:
                raise
            except NotYet as error:
                outcome.troubles[name] = Trouble(error.phase, error.reason, str(error), error.waits)
            except LauncherError as error:
                outcome.troubles[name] = Trouble(self._plugger.shelves.brought, "FailedAttach", str(error))
            except AgentError as error:
                outcome.troubles[name] = Trouble(PENDING, error.reason, str(error))
        if changed:
            await self._plugger.clear(runner)
        return outcome

    async def _put(self, runner: Runner, drive: _Element, volume: Obj, claims: Mapping[str, Obj]) -> bool:
        """Put a disc in, in the place of any other; return whether it was not there."""
        with self._plugger.taking(runner, volume, claims):
            file = await self._plugger.brought(runner, volume, claims)
            if path_of(drive) == str(file.path):
                return False
            await runner.link.request("change", xml=with_disc(drive, file))
        return True


def found(xml: str) -> dict[str, _Element]:
    """Return the CD-ROM drives of a domain by the names that the manifest gives them."""
    aliased = ((drive.find("alias"), drive) for drive in parsed(xml).iterfind("devices/disk[@device='cdrom']"))
    return {str(alias.get("name")).removeprefix("ua-"): drive for alias, drive in aliased if alias is not None}


def path_of(drive: _Element) -> str:
    """Return the file in a drive, empty if there is none."""
    source = drive.find("source")
    return "" if source is None else str(source.get("file") or source.get("dev") or "")


def target_of(drive: _Element) -> str:
    """Return the name that the guest has for a drive."""
    target = drive.find("target")
    return "" if target is None else str(target.get("dev") or "")


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
