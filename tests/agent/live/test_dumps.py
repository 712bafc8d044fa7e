"""Memory dumps into claims: the file that a launcher is given, and what is told; the launcher is played."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from polyvisor.agent.link.connection import LauncherError, LauncherGone
from polyvisor.agent.live import dumps, hotplug
from polyvisor.agent.live.dumps import Dumper
from polyvisor.agent.live.hotplug import NodeShelves, NotYet, Runner
from polyvisor.agent.storage.dump_files import DumpFile
from polyvisor.agent.storage.holds import Holds

Obj = dict[str, Any]
CLAIM: Obj = {"metadata": {"name": "c", "namespace": "default"}, "spec": {}}
OLD = "m-c-20200101-000000.memory.dump"


def machine(*volumes: Obj, told: list[Obj] | None = None) -> Obj:
    metadata = {"name": "m", "namespace": "default", "uid": "u"}
    return {"metadata": metadata, "spec": {"volumes": list(volumes)}, "status": {"volumeStatus": told or []}}


DUMP: Obj = {"name": "c", "memoryDump": {"claimName": "c", "hotpluggable": True}}


class PlayedLink:
    """A launcher that writes what it shall when it is let."""

    user = os.geteuid()

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.fails: Exception | None = None
        self.asked = 0

    async def request(self, operation: str, *, seconds: float, path: str) -> Obj:
        assert operation == "dump"
        self.asked += 1
        await self.go.wait()
        await asyncio.to_thread(Path(path).write_bytes, b"\x7fELF")
        if self.fails:
            raise self.fails
        return {}


class PlayedClaims:
    async def bind(self, claim: Obj) -> None:
        """Nothing to do."""


HOLDER = {"attachPodName": "hp-volume-x", "attachPodUID": "u"}


class PlayedShelves(NodeShelves):
    """Claims that another Pod has to have first."""

    def __init__(self, claims: Any, places: Any) -> None:
        super().__init__(claims, places)
        self.there = False
        self.forgotten: list[str] = []

    def holders(self, vmi: Obj, pod: Obj) -> dict[str, dict[str, str]]:
        return {"c": HOLDER if self.there else {}}

    async def dump_file(self, runner: Runner, volume: Obj, claim: Obj, name: str) -> DumpFile:
        if not self.there:
            raise NotYet("Bound", "WaitingForAttachment", "waiting for a Pod", waits=True)
        return await super().dump_file(runner, volume, claim, name)

    async def forget_dump(self, runner: Runner, volume: str) -> None:
        self.forgotten.append(volume)


class Played:
    def __init__(self, volumes: Path, shelves: type[NodeShelves] = NodeShelves) -> None:
        self.link = PlayedLink()
        self.looked = asyncio.Event()
        self.shelves = shelves(PlayedClaims(), SimpleNamespace(volumes=volumes))  # type: ignore[arg-type]
        self.others: list[Obj] = []
        holds = Holds(lambda: self.others, lambda _: True, Path())
        self.dumper = Dumper(self.shelves, holds, lambda _: self.looked.set())

    async def settle(self, vmi: Obj, claim: Obj | None = CLAIM) -> dict[str, Obj]:
        runner = Runner(vmi, {}, None, self.link, Path())  # type: ignore[arg-type]
        return await self.dumper.settle(runner, {"c": claim} if claim else {})

    async def ended(self, vmi: Obj) -> Obj:
        self.link.go.set()
        await asyncio.wait_for(self.looked.wait(), 20)
        return (await self.settle(vmi))["c"]


def test_it_is_due_until_it_is_settled_and_once_more_when_it_goes() -> None:
    told = {"name": "c", "phase": "MemoryDumpCompleted", "memoryDumpVolume": {}}
    assert not dumps.due(machine({"name": "root", "emptyDisk": {}}))
    assert dumps.due(machine(DUMP))
    assert dumps.due(machine(DUMP, told=[told | {"phase": "MemoryDumpInProgress"}]))
    assert not dumps.due(machine(DUMP, told=[told]))
    assert not dumps.due(machine(DUMP, told=[told | {"phase": "MemoryDumpFailed"}]))
    assert dumps.due(machine(told=[told]))


async def test_a_dump_replaces_the_one_before_and_has_its_name_when_it_is_whole(tmp_path: Path) -> None:
    one, folder = Played(tmp_path), tmp_path / "default/c"
    folder.mkdir(parents=True)
    for name in (OLD, OLD + ".part", "disk.img"):
        (folder / name).write_bytes(b"x")
    began = (await one.settle(machine(DUMP)))["c"]
    assert began["phase"] == "MemoryDumpInProgress"
    file = began["memoryDumpVolume"]["targetFileName"]
    assert file.startswith("m-c-2")
    assert file.endswith(".memory.dump")
    assert (await one.settle(machine(DUMP)))["c"] == began  # it is not begun twice
    ended = await one.ended(machine(DUMP))
    assert ended["phase"] == "MemoryDumpCompleted"
    assert ended["memoryDumpVolume"]["endTimestamp"]
    assert sorted(path.name for path in folder.iterdir()) == ["disk.img", file]
    assert (folder / file).read_bytes() == b"\x7fELF"
    assert (folder / file).stat().st_mode & 0o777 == 0o600
    assert await one.settle(machine(told=[ended])) == {}
    assert one.link.asked == 1
    assert (await Played(tmp_path).settle(machine(DUMP, told=[ended])))["c"] == ended  # the next agent leaves it


async def test_a_claim_is_told_of_as_long_as_it_is_written_to(tmp_path: Path) -> None:
    one = Played(tmp_path)
    began = await one.settle(machine(DUMP))
    assert await one.settle(machine()) == began
    one.link.go.set()
    await asyncio.wait_for(one.looked.wait(), 20)
    assert await one.settle(machine()) == {}


async def test_what_fails_says_why_and_leaves_no_file(tmp_path: Path) -> None:
    one = Played(tmp_path)
    one.link.fails = LauncherError("no room")
    await one.settle(machine(DUMP))
    ended = await one.ended(machine(DUMP))
    assert (ended["phase"], ended["message"]) == ("MemoryDumpFailed", "no room")
    assert list((tmp_path / "default/c").iterdir()) == []


async def test_the_next_launcher_is_asked_anew(tmp_path: Path) -> None:
    one = Played(tmp_path)
    one.link.fails = LauncherGone("gone")
    await one.settle(machine(DUMP))
    assert (await one.ended(machine(DUMP)))["phase"] == "MemoryDumpInProgress"
    await one.dumper.stop()


async def test_a_link_in_the_claim_leads_nowhere(tmp_path: Path) -> None:
    one, outside = Played(tmp_path / "volumes"), tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "volumes/default").mkdir(parents=True)
    (tmp_path / "volumes/default/c").symlink_to(outside)
    ended = (await one.settle(machine(DUMP)))["c"]
    assert (ended["phase"], "symbolic link" in ended["message"]) == ("MemoryDumpFailed", True)
    assert list(outside.iterdir()) == []


def no_claim(entry: Obj) -> bool:
    return (
        entry["phase"] == "Pending"
        and "default/c does not exist" in entry["message"]
        and dumps.waiting({"volumeStatus": [entry]})
    )


def refused(words: str) -> Callable[[Obj], bool]:
    return lambda entry: entry["phase"] == "MemoryDumpFailed" and words in entry["message"]


@pytest.mark.parametrize(
    ("claim", "holds"),
    [
        (None, no_claim),
        ({**CLAIM, "spec": {"volumeMode": "Block"}}, refused("block device")),
    ],
)
async def test_what_cannot_be_done(tmp_path: Path, claim: Obj | None, holds: Callable[[Obj], bool]) -> None:
    one = Played(tmp_path)
    assert holds((await one.settle(machine(DUMP), claim))["c"])
    assert one.link.asked == 0


async def test_a_pod_that_has_the_claim_is_waited_for_and_told_of(tmp_path: Path) -> None:
    one = Played(tmp_path, PlayedShelves)
    entry = (await one.settle(machine(DUMP)))["c"]
    assert (entry["phase"], entry["reason"], entry["hotplugVolume"]) == ("Bound", "WaitingForAttachment", {})
    one.shelves.there = True  # type: ignore[attr-defined]
    entry = (await one.settle(machine(DUMP, told=[entry])))["c"]
    assert (entry["phase"], entry["hotplugVolume"]) == ("MemoryDumpInProgress", HOLDER)
    ended = await one.ended(machine(DUMP, told=[entry]))
    assert (ended["phase"], ended["hotplugVolume"]) == ("MemoryDumpCompleted", HOLDER)
    assert not hotplug.due(machine(DUMP, told=[ended]), {}), "it is no disk"
    assert one.shelves.forgotten == []  # type: ignore[attr-defined]
    await one.settle(machine(told=[ended]))
    assert one.shelves.forgotten == ["c"]  # type: ignore[attr-defined]


async def test_a_claim_of_another_machine_takes_no_dump(tmp_path: Path) -> None:
    one = Played(tmp_path)
    other = machine({"name": "data", "persistentVolumeClaim": {"claimName": "c"}})
    one.others = [{**other, "metadata": {**other["metadata"], "name": "other", "uid": "o"}}]
    entry = (await one.settle(machine(DUMP)))["c"]
    assert (entry["phase"], "default/other" in entry["message"]) == ("MemoryDumpFailed", True)
    assert not (tmp_path / "default/c").exists()


def test_dumps_are_told_beside_disks() -> None:
    found: Obj = {"volumeStatus": [{"name": "root", "target": "vda"}, {"name": "c", "target": ""}]}
    dumps.tell(found, {"c": {"name": "c", "target": "", "phase": "p"}})
    assert [entry.get("phase") for entry in found["volumeStatus"]] == [None, "p"]
