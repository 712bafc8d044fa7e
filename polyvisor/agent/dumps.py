"""Memory dumps: a ``memoryDump`` volume has a running machine's memory written into its claim, once.

How far each is stands in ``status.volumeStatus``, so an agent that died over a dump begins it anew. What isn't obvious:
the launcher never resolves a path in the claim, where another guest may have put links. The agent makes the file, and
the launcher opens the agent's descriptor of it (``/proc/PID/fd/N``).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from polyvisor.agent import disks, safepath
from polyvisor.agent.claims import ClaimKeeper
from polyvisor.agent.errors import AgentError, NoSuchClaim, translated
from polyvisor.agent.link import LauncherError, LauncherGone, Link
from polyvisor.agent.node import now
from polyvisor.api import Obj
from polyvisor.api.dumps import DumpVolumePhase, dump_claim
from polyvisor.kube.tasks import end_task

SUFFIX = ".memory.dump"
PART = ".part"
DUMP_SECONDS = 3600.0
LOOK_SECONDS = 2.0
"""How soon to look again at a claim that is not there: nothing here watches for it."""
PENDING = "Pending"
SETTLED = (DumpVolumePhase.COMPLETED, DumpVolumePhase.FAILED)
Key = tuple[str, str]


def due(vmi: Obj) -> bool:
    """Whether a dump is wanted that is not settled, or told of and not wanted any more."""
    wanted = {volume["name"] for volume in _wanted(vmi)}
    told = _told(vmi)
    return told.keys() != wanted or any(entry.get("phase") not in SETTLED for entry in told.values())


class Dumper:
    """Has memory dumped, for one agent. Without ``volumes``, the folder of claims, there are none on this node."""

    def __init__(self, claims: ClaimKeeper, volumes: Path | None, look: Callable[[str], None]) -> None:
        self._claims = claims
        self._volumes = volumes
        self._look = look
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._entries: dict[Key, Obj] = {}

    async def settle(self, vmi: Obj, link: Link, claims: Mapping[str, Obj]) -> dict[str, Obj]:
        """Begin what is wanted and not begun; return what is to be told of each dump, by its volume's name."""
        uid, told, found = vmi["metadata"]["uid"], _told(vmi), {}
        wanted = {volume["name"]: volume for volume in _wanted(vmi)}
        for name, volume in wanted.items():
            key = (uid, name)
            if key in self._entries:  # being done, or done and perhaps not told yet
                found[name] = self._entries[key]
            elif (told.get(name) or {}).get("phase") in SETTLED:
                found[name] = told[name]
            else:
                found[name] = await self._begin(key, vmi, volume, link, claims.get(dump_claim(volume)))
        for key in [key for key in self._entries if key[0] == uid and key[1] not in wanted]:
            if key in self._tasks:  # it cannot be broken off; the claim is in use until it is over
                found[key[1]] = self._entries[key]
            else:
                del self._entries[key]
        return found

    def forget(self, uid: str) -> None:
        """Drop what is known of a machine that is over."""
        for key in [key for key in self._entries if key[0] == uid and key not in self._tasks]:
            del self._entries[key]

    async def stop(self) -> None:
        """End what is being done."""
        for task in list(self._tasks.values()):
            await end_task(task)

    async def _begin(self, key: Key, vmi: Obj, volume: Obj, link: Link, claim: Obj | None) -> Obj:
        name, began = volume["name"], datetime.now(UTC)
        file = f"{vmi['metadata']['name']}-{dump_claim(volume)}-{began:%Y%m%d-%H%M%S}{SUFFIX}"
        info = {"claimName": dump_claim(volume), "startTimestamp": now(), "targetFileName": file}
        entry: Obj = {"name": name, "target": "", "memoryDumpVolume": info}
        if claim is None:
            missing = NoSuchClaim(vmi["metadata"]["namespace"], info["claimName"])
            return entry | {"phase": PENDING, "reason": missing.reason, "message": str(missing)}
        try:
            await self._usable(claim)
        except AgentError as error:
            return _failed(entry, str(error))
        self._entries[key] = entry | {"phase": str(DumpVolumePhase.IN_PROGRESS)}
        task = asyncio.create_task(self._dump(key, claim, link), name=f"dump-{key[0]}-{name}")
        self._tasks[key] = task
        return self._entries[key]

    async def _usable(self, claim: Obj) -> None:
        if self._volumes is None:
            raise AgentError("the memory of machines in launcher Pods cannot be dumped in this release")
        if claim["spec"].get("volumeMode") == "Block":
            raise AgentError("the claim is a block device; a dump is a file and wants volumeMode Filesystem")
        await self._claims.bind(claim)

    async def _dump(self, key: Key, claim: Obj, link: Link) -> None:
        entry = self._entries[key]
        try:
            file = entry["memoryDumpVolume"]["targetFileName"]
            assert self._volumes is not None
            target = await asyncio.to_thread(_Target, self._volumes, claim, file)
            try:
                await link.request("dump", seconds=DUMP_SECONDS, path=f"/proc/{os.getpid()}/fd/{target.descriptor}")
                await asyncio.to_thread(target.keep)
            finally:
                await asyncio.to_thread(target.close)
            self._entries[key] = _ended(entry, DumpVolumePhase.COMPLETED, "the memory was dumped")
        except LauncherGone:
            del self._entries[key]  # its successor is asked anew
        except (AgentError, LauncherError) as error:
            self._entries[key] = _failed(entry, str(error))
        finally:
            del self._tasks[key]
            self._look(key[0])


class _Target:
    """The file of one dump, which has its name only once it is whole. Made blocking, and by nobody twice."""

    def __init__(self, volumes: Path, claim: Obj, name: str) -> None:
        metadata = claim["metadata"]
        self._names = [metadata["namespace"], metadata["name"]]
        self._volumes, self._name = volumes, name
        disks.claim_folder(volumes, *self._names)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with self._opened() as folder:
            for old in os.listdir(folder):  # noqa: PTH208
                if old.removesuffix(PART).endswith(SUFFIX):  # a claim has room for one
                    safepath.remove(folder, old)
            self.descriptor = os.open(name + PART, flags, 0o600, dir_fd=folder)

    def close(self) -> None:
        """Let go of the file; one that did not become whole is removed."""
        os.close(self.descriptor)
        with self._opened() as folder:
            safepath.remove(folder, self._name + PART)

    def keep(self) -> None:
        """Give the file its name: it is whole."""
        with self._opened() as folder:
            os.fsync(self.descriptor)
            os.rename(self._name + PART, self._name, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        doing = f"dumping into claim {'/'.join(self._names)}"
        with (
            translated(self._volumes, doing),
            safepath.opened_root(self._volumes) as top,
            safepath.walk(top, self._names) as folder,
        ):
            yield folder


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
    entries = (vmi.get("status") or {}).get("volumeStatus") or []
    return {entry["name"]: entry for entry in entries if "memoryDumpVolume" in entry}


def _failed(entry: Obj, message: str) -> Obj:
    return _ended(entry, DumpVolumePhase.FAILED, message)


def _ended(entry: Obj, phase: DumpVolumePhase, message: str) -> Obj:
    info = {**entry["memoryDumpVolume"], "endTimestamp": now()}
    return {**entry, "phase": str(phase), "reason": str(phase), "message": message, "memoryDumpVolume": info}
