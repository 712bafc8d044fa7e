"""Discs that come and go: what a launcher is asked for, and what is told; the launcher is played."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.link.connection import LauncherError, LauncherGone
from polyvisor.agent.live import hotplug, media
from polyvisor.agent.live.hotplug import NodeShelves, Outcome, Plugger, Runner, Trouble
from polyvisor.agent.live.media import Drives
from polyvisor.agent.storage.disks import DiskFile
from polyvisor.agent.storage.holds import Holds
from polyvisor.agent.storage.sources import Places
from polyvisor.drivers.qemu import QemuDriver

Obj = dict[str, Any]
CLAIM: Obj = {
    "metadata": {"name": "c", "namespace": "default"},
    "spec": {"resources": {"requests": {"storage": "1Mi"}}},
}
OTHER = {**CLAIM, "metadata": {"name": "d", "namespace": "default"}}
ROOT: Obj = {"name": "root", "emptyDisk": {"capacity": "1Mi"}}


def disc(claim: str = "c", **more: Any) -> Obj:
    return {"name": "drive", "persistentVolumeClaim": {"claimName": claim, "hotpluggable": True, **more}}


def machine(*volumes: Obj, told: list[Obj] | None = None) -> Obj:
    disks = [{"name": "root", "disk": {}}, {"name": "drive", "cdrom": {"bus": "sata"}}]
    return {
        "metadata": {"name": "m", "namespace": "default", "uid": "u"},
        "spec": {"domain": {"devices": {"disks": disks}}, "volumes": [ROOT, *volumes]},
        "status": {"volumeStatus": told or []},
    }


class PlayedLink:
    """A launcher whose domain has one drive with this in it."""

    user = os.geteuid()

    def __init__(self, path: str = "") -> None:
        source = f"<source file='{path}' index='2'><x/></source><backingStore/>" if path else ""
        self.xml = (
            "<domain><devices><disk type='file' device='disk'><target dev='vda'/><alias name='ua-root'/></disk>\n"
            f"<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>{source}<target dev='sda' bus='sata'/>"
            "<readonly/><alias name='ua-drive'/><address type='drive' unit='0'/></disk></devices></domain>"
        )
        self.asked: list[str] = []
        self.fails: Exception | None = None

    async def request(self, operation: str, **arguments: Any) -> Obj:
        if operation == "describe":
            return {"xml": self.xml}
        assert operation == "change"
        self.asked.append(arguments["xml"])
        if self.fails:
            raise self.fails
        return {}


class PlayedClaims:
    async def bind(self, claim: Obj) -> None:
        """Nothing to do."""


async def ready(_: Obj) -> str:
    return ""


async def settle(vmi: Obj, link: PlayedLink, places: Places, others: list[Obj] | None = None) -> Outcome:
    shelves = NodeShelves(PlayedClaims(), places)  # type: ignore[arg-type]
    runner = Runner(vmi, {}, QemuDriver(), link, Path())  # type: ignore[arg-type]
    holds = Holds(lambda: others or [], lambda _: True, Path())
    return await Drives(Plugger(shelves, ready, holds)).settle(runner, {"c": CLAIM, "d": OTHER})


def test_only_the_disc_of_a_drive_is_changed() -> None:
    drive = media.found(PlayedLink("/old.iso").xml)["drive"]
    assert media.path_of(drive) == "/old.iso"
    rest = '<target dev="sda" bus="sata"/><readonly/><alias name="ua-drive"/><address type="drive" unit="0"/>{}</disk>'
    start = '<disk type="{}" device="cdrom"><driver name="qemu" type="raw"/>'
    assert media.with_disc(drive, None) == start.format("file") + rest.format("")
    new = media.with_disc(drive, DiskFile(Path("/a&b.iso"), "raw"))
    assert new == start.format("file") + rest.format('<source file="/a&amp;b.iso"/>')
    block = media.with_disc(drive, DiskFile(Path("/dev/x"), "raw", block=True))
    assert block == start.format("block") + rest.format('<source dev="/dev/x"/>')


async def test_a_disc_is_put_in_and_another_and_taken_out(places: Places) -> None:
    paths = {claim: str(places.volumes / "default" / claim / "disk.img") for claim in "cd"}
    for held, wanted in (("", "c"), ("c", "d"), ("d", "")):
        link = PlayedLink(paths.get(held, ""))
        assert await settle(machine(*([disc(wanted)] if wanted else [])), link, places) == Outcome()
        (xml,) = link.asked
        assert media.path_of(media.found(f"<d><devices>{xml}</devices></d>")["drive"]) == paths.get(wanted, "")
    link = PlayedLink(paths["c"])
    assert await settle(machine(disc("c")), link, places) == Outcome()
    assert link.asked == []


async def test_a_disc_that_is_not_hotpluggable_stays(places: Places) -> None:
    link = PlayedLink("/else.iso")
    assert await settle(machine(disc(hotpluggable=False)), link, places) == Outcome()
    assert link.asked == []


async def test_what_cannot_be_changed_is_told(places: Places) -> None:
    link = PlayedLink()
    assert (await settle(machine(disc("none")), link, places)).troubles["drive"].reason == "FailedPvcNotFound"
    link.fails = LauncherError("the tray is locked")
    outcome = await settle(machine(disc()), link, places)
    assert outcome.troubles == {"drive": Trouble("Pending", "FailedAttach", "the tray is locked")}
    found: Obj = {"volumeStatus": [{"name": "root", "target": "vda"}, {"name": "drive", "target": "sda"}]}
    hotplug.tell(machine(disc()), found, outcome, {})
    told = found["volumeStatus"][1]
    assert (told["phase"], told["message"]) == ("Pending", "the tray is locked")
    link.fails = LauncherGone("gone")
    with pytest.raises(LauncherGone):
        await settle(machine(disc()), link, places)


async def test_a_disc_that_the_guest_does_not_give_away_is_leaving(places: Places) -> None:
    link = PlayedLink("/old.iso")
    link.fails = LauncherError("the tray is locked")
    outcome = await settle(machine(), link, places)
    assert outcome.leaving == {"drive": "sda"}
    found: Obj = {"volumeStatus": [{"name": "root", "target": "vda"}]}
    hotplug.tell(machine(), found, outcome, {})
    told = found["volumeStatus"][1]
    assert (told["name"], told["phase"], told["message"]) == ("drive", "Detaching", "the tray is locked")
    assert hotplug.due(machine(told=found["volumeStatus"]), {}), "it is asked again"


async def test_a_disc_that_another_machine_writes_to_is_waited_for(places: Places) -> None:
    other = machine({"name": "data", "persistentVolumeClaim": {"claimName": "c"}})
    other["metadata"] = {**other["metadata"], "name": "other", "uid": "o"}
    link = PlayedLink()
    trouble = (await settle(machine(disc()), link, places, [other])).troubles["drive"]
    assert (trouble.reason, "default/other" in trouble.message) == ("VolumeInUse", True)
    assert link.asked == []


def test_another_claim_is_due() -> None:
    told = [{"name": "drive", "phase": "Ready", "hotplugVolume": {}, "persistentVolumeClaimInfo": {"claimName": "c"}}]
    assert not media.due(machine(disc("c"), told=told))
    assert media.due(machine(disc("d"), told=told))
    assert not media.due(machine(told=told))
    assert hotplug.due(machine(told=told), {})
