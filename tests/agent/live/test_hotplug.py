"""Which disks are attached and detached, and what the status tells of it; the launcher is played."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.errors import AgentError
from polyvisor.agent.link.connection import LauncherError, LauncherGone
from polyvisor.agent.live import hotplug, render, status
from polyvisor.agent.live.hotplug import NodeShelves, NotYet, Outcome, Plugger, Runner, Trouble
from polyvisor.agent.storage.disks import DiskFile
from polyvisor.agent.storage.holds import Holds
from polyvisor.agent.storage.sources import Places
from polyvisor.drivers.qemu import QemuDriver

from .. import played_links

Obj = dict[str, Any]
CLAIM: Obj = {
    "metadata": {"name": "c", "namespace": "default"},
    "spec": {"resources": {"requests": {"storage": "1Mi"}}},
}


def machine(*volumes: Obj, told: list[Obj] | None = None) -> Obj:
    disks = [{"name": volume["name"], "disk": {"bus": "scsi"}, "serial": volume["name"]} for volume in volumes]
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": "m", "namespace": "default", "uid": "0f0e0d0c-0000-4000-8000-000000000000"},
        "spec": {
            "domain": {"memory": {"guest": "64Mi"}, "devices": {"disks": disks, "interfaces": [{"name": "x"}]}},
            "volumes": list(volumes),
        },
        "status": {"hypervisor": {"virtType": "qemu"}, "volumeStatus": told or []},
    }


def plug(name: str, claim: str = "c") -> Obj:
    return {"name": name, "persistentVolumeClaim": {"claimName": claim, "hotpluggable": True}}


ROOT = {"name": "root", "emptyDisk": {"capacity": "1Mi"}}


class PlayedLink(played_links.PlayedLink):
    """A launcher whose domain has these disks, each with its target."""

    def device(self, name: str, what: str) -> str:
        """Return a disk."""
        return f"<disk><source file='/there/{name}.img'/><target dev='{what}'/><alias name='ua-{name}'/></disk>"


class PlayedClaims:
    def __init__(self) -> None:
        self.bound: list[str] = []

    async def bind(self, claim: Obj) -> None:
        self.bound.append(claim["metadata"]["name"])


FREE = Holds(list, lambda _: True, Path())
"""Nothing is another machine's."""


async def ready(_: Obj) -> str:
    return ""


def runner(vmi: Obj, link: PlayedLink, home: Path) -> Runner:
    return Runner(vmi, {}, QemuDriver(), link, home)  # type: ignore[arg-type]


async def settle(vmi: Obj, link: PlayedLink, places: Places, home: Path, **claims: Obj) -> Outcome:
    shelves = NodeShelves(PlayedClaims(), places)  # type: ignore[arg-type]
    return await Plugger(shelves, ready, FREE).settle(runner(vmi, link, home), claims)


def test_it_is_due_only_where_something_may_differ() -> None:
    settled = {"name": "a", "phase": "Ready", "hotplugVolume": {}}
    assert not hotplug.due(machine(ROOT), {})
    assert hotplug.due(machine(ROOT, plug("a")), {})
    assert not hotplug.due(machine(ROOT, plug("a"), told=[{"name": "root"}, settled]), {})
    assert hotplug.due(machine(ROOT, plug("a"), told=[settled | {"phase": "Pending"}]), {})
    assert hotplug.due(machine(ROOT, told=[settled]), {})


async def test_a_new_volume_is_attached_under_a_free_name(places: Places, home: Path) -> None:
    link = PlayedLink(root="sda", other="sdc")
    vmi = machine(ROOT, plug("new"), {**plug("other"), "name": "other"})
    outcome = await settle(vmi, link, places, home, c=CLAIM)
    assert outcome == Outcome()
    ((operation, arguments),) = link.asked
    assert operation == "attach"
    assert '<target dev="sdb" bus="scsi"/>' in arguments["xml"]
    assert str(places.volumes / "default/c/disk.img") in arguments["xml"]
    assert "ua-new" in arguments["xml"]
    assert "<serial>new</serial>" in arguments["xml"]
    assert "interface" not in arguments["xml"]
    assert (places.volumes / "default/c/disk.img").stat().st_size == 1 << 20


async def test_what_the_spec_no_longer_names_is_detached(places: Places, home: Path) -> None:
    link = PlayedLink(root="sda", old="sdb")
    outcome = await settle(machine(ROOT), link, places, home)
    assert link.asked == [("detach", {"alias": "ua-old"})]
    assert outcome.leaving == {"old": "sdb"}
    found: Obj = {"volumeStatus": [{"name": "root", "target": "sda"}]}
    hotplug.tell(machine(ROOT), found, outcome, {})
    assert found["volumeStatus"][0] == {"name": "root", "target": "sda"}
    assert found["volumeStatus"][1]["phase"] == "Detaching"


async def test_what_cannot_be_attached_is_told_and_harms_nothing_else(places: Places, home: Path) -> None:
    link = PlayedLink()
    vmi = machine(plug("gone", "none"), plug("new"))
    outcome = await settle(vmi, link, places, home, c=CLAIM)
    assert outcome.troubles["gone"].reason == "FailedPvcNotFound"
    assert [operation for operation, _ in link.asked] == ["attach"]
    link.fails = LauncherError("no room")
    outcome = await settle(vmi, link, places, home, c=CLAIM)
    assert outcome.troubles["new"] == Trouble("Pending", "FailedAttach", "no room")
    found: Obj = {"volumeStatus": [{"name": "gone", "target": ""}, {"name": "new", "target": ""}]}
    hotplug.tell(vmi, found, outcome, {})
    assert [(entry["phase"], entry["message"]) for entry in found["volumeStatus"]][1] == ("Pending", "no room")
    link.fails = LauncherGone("gone")
    with pytest.raises(LauncherGone):
        await settle(vmi, link, places, home, c=CLAIM)


class PlayedShelves:
    """Disks that another Pod has, one of them."""

    brought = "MountedToPod"

    def __init__(self) -> None:
        self.kept: list[set[str]] = []

    def holders(self, vmi: Obj, pod: Obj) -> dict[str, dict[str, str]]:
        return {"new": HOLDER}

    async def bring(self, runner: Runner, volume: Obj, claim: Obj) -> DiskFile:
        if volume["name"] != "new":
            raise NotYet("Bound", "WaitingForAttachment", "waiting for a Pod", waits=True)
        return DiskFile(Path("/there/new.img"), "raw")

    async def clear(self, runner: Runner, kept: Collection[str]) -> None:
        self.kept.append(set(kept))


HOLDER = {"attachPodName": "hp-volume-x", "attachPodUID": "u"}


async def test_how_far_a_disk_is_that_another_pod_has(home: Path) -> None:
    shelves, link = PlayedShelves(), PlayedLink(old="sda")
    vmi = machine(plug("new"), plug("later"))
    outcome = await Plugger(shelves, ready, FREE).settle(runner(vmi, link, home), {"c": CLAIM})
    assert shelves.kept == [{"/there/old.img"}], "what the domain still has is not taken away"
    assert [operation for operation, _ in link.asked] == ["detach", "attach"]
    assert "/there/new.img" in link.asked[1][1]["xml"]
    assert outcome.troubles == {"later": Trouble("Bound", "WaitingForAttachment", "waiting for a Pod", waits=True)}
    link.fails = LauncherError("no room")
    link.have = {}
    outcome = await Plugger(shelves, ready, FREE).settle(runner(machine(plug("new")), link, home), {"c": CLAIM})
    assert outcome.troubles["new"] == Trouble("MountedToPod", "FailedAttach", "no room")
    found: Obj = {"volumeStatus": [{"name": "new", "target": ""}]}
    hotplug.tell(machine(plug("new")), found, outcome, {"new": HOLDER})
    assert found["volumeStatus"][0]["hotplugVolume"] == HOLDER
    assert found["volumeStatus"][0]["phase"] == "MountedToPod"


def test_it_is_due_when_another_pod_has_the_claim() -> None:
    told = [{"name": "a", "phase": "Ready", "hotplugVolume": HOLDER}]
    assert not hotplug.due(machine(plug("a"), told=told), {"a": HOLDER})
    assert not hotplug.due(machine(plug("a"), told=told), {"a": {}})
    assert hotplug.due(machine(plug("a"), told=told), {"a": {**HOLDER, "attachPodUID": "v"}})


async def test_a_claim_that_is_being_filled_is_waited_for(places: Places, home: Path) -> None:
    async def filled(_: Obj) -> str:
        return "DataVolume c is being filled"

    link = PlayedLink()
    shelves = NodeShelves(PlayedClaims(), places)  # type: ignore[arg-type]
    outcome = await Plugger(shelves, filled, FREE).settle(runner(machine(plug("new")), link, home), {"c": CLAIM})
    assert outcome.troubles["new"] == Trouble("Pending", "NotAllDVsReady", "DataVolume c is being filled")
    assert link.asked == []


def test_a_volume_without_a_disk_is_refused(home: Path) -> None:
    vmi = machine(plug("new"))
    vmi["spec"]["domain"]["devices"]["disks"] = []
    with pytest.raises(AgentError, match="has no disk"):
        render.disk_xml(vmi, QemuDriver(), "new", DiskFile(home / "x", "raw"), set(), home)


def test_the_last_volume_that_goes_leaves_the_status() -> None:
    told = [{"name": "old", "phase": "Detaching", "hotplugVolume": {}}]
    state = {"state": "running", "reason": ""}
    new = status.running(machine(told=told), state, {}, QemuDriver(), {"volumeStatus": [], "interfaces": []})
    assert new["volumeStatus"] == []
    assert status.running(machine(told=told), state, {}, QemuDriver(), {})["volumeStatus"] == told
