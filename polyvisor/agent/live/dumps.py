"""Memory dumps: a ``memoryDump`` volume has a running machine's memory written into its claim, once.

How far each is stands in ``status.volumeStatus``, so an agent that died over a dump begins it anew. How a file comes to
be in the claim, and before the launcher, is for :class:`.hotplug.Shelves` to know.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from polyvisor.agent.errors import AgentError, NoSuchClaim, translated
from polyvisor.agent.link.connection import LauncherError, LauncherGone, Link
from polyvisor.agent.live.hotplug import NotYet, Runner, Shelves
from polyvisor.agent.node.registration import now
from polyvisor.agent.storage.dump_files import SUFFIX, DumpFile
from polyvisor.agent.storage.holds import Holds
from polyvisor.api import Obj
from polyvisor.api.dumps import DumpVolumePhase, dump_claim
from polyvisor.api.reading import read_status
from polyvisor.kube.tasks import end_task

DUMP_SECONDS = 3600.0
LOOK_SECONDS = 2.0
"""How soon to look again at a claim that is not there: nothing here watches for it."""
PENDING = "Pending"
SETTLED = (DumpVolumePhase.COMPLETED, DumpVolumePhase.FAILED)
Key = tuple[str, str]
log = logging.getLogger("polyvisor.dumps")


def due(vmi: Obj) -> bool:
    """Whether a dump is wanted that is not settled, or told of and not wanted any more."""
    wanted = {volume["name"] for volume in _wanted(vmi)}
    told = _told(vmi)
    return told.keys() != wanted or any(entry.get("phase") not in SETTLED for entry in told.values())


class Dumper:
    """Has memory dumped, for one agent."""

    def __init__(self, shelves: Shelves, holds: Holds, look: Callable[[str], None]) -> None:
        self._shelves = shelves
        self._holds = holds
        self._look = look
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._entries: dict[Key, Obj] = {}

    async def settle(self, runner: Runner, claims: Mapping[str, Obj]) -> dict[str, Obj]:
        """Begin what is wanted and not begun; return what is to be told of each dump, by its volume's name."""
        vmi = runner.vmi
        uid, told, found = vmi["metadata"]["uid"], _told(vmi), {}
        wanted = {volume["name"]: volume for volume in _wanted(vmi)}
        for name, volume in wanted.items():
            key = (uid, name)
            if key in self._entries:  # being done, or done and perhaps not told yet
                found[name] = self._entries[key]
            elif (told.get(name) or {}).get("phase") in SETTLED:
                found[name] = told[name]
            else:
                found[name] = await self._begin(key, runner, volume, claims)
        for key in [key for key in self._entries if key[0] == uid and key[1] not in wanted]:
            if key in self._tasks:  # it cannot be broken off; the claim is in use until it is over
                found[key[1]] = self._entries[key]
            else:
                del self._entries[key]
        for name in told.keys() - found.keys():
            await self._shelves.forget_dump(runner, name)
        holders = self._shelves.holders(vmi, runner.pod)
        return {
            name: entry | ({"hotplugVolume": dict(holders[name])} if name in holders else {})
            for name, entry in found.items()
        }

    def forget(self, uid: str) -> None:
        """Drop what is known of a machine that is over."""
        for key in [key for key in self._entries if key[0] == uid and key not in self._tasks]:
            del self._entries[key]

    async def stop(self) -> None:
        """End what is being done."""
        for task in list(self._tasks.values()):
            await end_task(task)

    async def _begin(self, key: Key, runner: Runner, volume: Obj, claims: Mapping[str, Obj]) -> Obj:
        vmi, name, began = runner.vmi, volume["name"], datetime.now(UTC)
        claim = claims.get(dump_claim(volume))
        file = f"{vmi['metadata']['name']}-{dump_claim(volume)}-{began:%Y%m%d-%H%M%S}{SUFFIX}"
        info = {"claimName": dump_claim(volume), "startTimestamp": now(), "targetFileName": file}
        entry: Obj = {"name": name, "target": "", "memoryDumpVolume": info}
        if claim is None:
            missing = NoSuchClaim(vmi["metadata"]["namespace"], info["claimName"])
            return entry | {"phase": PENDING, "reason": missing.reason, "message": str(missing)}
        try:
            if claim["spec"].get("volumeMode") == "Block":
                raise AgentError("the claim is a block device; a dump is a file and wants volumeMode Filesystem")
            self._holds.take(vmi, volume, claims)
            target = await self._shelves.dump_file(runner, volume, claim, file)
        except NotYet as error:
            self._holds.release(*key)
            return entry | {"phase": error.phase, "reason": error.reason, "message": str(error)}
        except AgentError as error:
            self._holds.release(*key)
            return _failed(entry, str(error))
        self._entries[key] = entry | {"phase": str(DumpVolumePhase.IN_PROGRESS)}
        task = asyncio.create_task(self._dump(key, runner.link, target), name=f"dump-{key[0]}-{name}")
        self._tasks[key] = task
        return self._entries[key]

    async def _dump(self, key: Key, link: Link, target: DumpFile) -> None:
        entry = self._entries[key]
        try:
            try:
                await link.request("dump", seconds=DUMP_SECONDS, path=target.path)
                with translated(Path(f"/proc/self/fd/{target.folder}"), "keeping the memory dump"):
                    await asyncio.to_thread(target.keep)
            finally:
                await self._close(key, target)
            self._entries[key] = _ended(entry, DumpVolumePhase.COMPLETED, "the memory was dumped")
        except LauncherGone:
            del self._entries[key]  # its successor is asked anew
        except (AgentError, LauncherError) as error:
            self._entries[key] = _failed(entry, str(error))
        finally:
            del self._tasks[key]
            self._holds.release(*key)
            self._look(key[0])

    async def _close(self, key: Key, target: DumpFile) -> None:
        try:
            await asyncio.to_thread(target.close)
        except (AgentError, OSError) as error:
            log.warning("dump %s of machine %s: its file cannot be let go of: %s", key[1], key[0], error)


def waiting(status: Obj) -> bool:
    """Whether a dump waits for its claim."""
    return any(entry.get("phase") == PENDING for entry in _told({"status": status}).values())


def tell(found: Obj, entries: Mapping[str, Obj]) -> None:
    """Put what is told of dumps into what is told of a machine's volumes. In place."""
    rest = [entry for entry in found["volumeStatus"] if entry["name"] not in entries]
    found["volumeStatus"] = [*rest, *entries.values()]


def _wanted(vmi: Obj) -> list[Obj]:
    return [volume for volume in vmi["spec"].get("volumes") or [] if dump_claim(volume)]


def _told(vmi: Obj) -> dict[str, Obj]:
    entries = read_status(vmi).get("volumeStatus") or []
    return {entry["name"]: entry for entry in entries if "memoryDumpVolume" in entry}


def _failed(entry: Obj, message: str) -> Obj:
    return _ended(entry, DumpVolumePhase.FAILED, message)


def _ended(entry: Obj, phase: DumpVolumePhase, message: str) -> Obj:
    info = {**entry["memoryDumpVolume"], "endTimestamp": now()}
    return {**entry, "phase": str(phase), "reason": str(phase), "message": message, "memoryDumpVolume": info}
