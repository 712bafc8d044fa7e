"""Which of a machine's claims another Pod than its launcher's has to have, and what they are called there."""

from __future__ import annotations

from typing import Any

from polyvisor.api.launcher_pods import attached_name, to_attach
from polyvisor.api.volumes import without

Obj = dict[str, Any]
LAUNCHER: Obj = {"spec": {"volumes": [{"name": "drive", "persistentVolumeClaim": {"claimName": "first"}}]}}


def plug(name: str, claim: str) -> Obj:
    return {"name": name, "persistentVolumeClaim": {"claimName": claim, "hotpluggable": True}}


def spec(*volumes: Obj) -> Obj:
    disks = [{"name": "drive", "cdrom": {}}, {"name": "data", "disk": {}}]
    return {"domain": {"devices": {"disks": disks}}, "volumes": list(volumes)}


DUMP: Obj = {"name": "dump", "memoryDump": {"claimName": "dump"}}
FIXED: Obj = {"name": "fixed", "persistentVolumeClaim": {"claimName": "fixed"}}


def test_what_comes_while_a_machine_runs() -> None:
    wanted = spec(plug("data", "c"), plug("drive", "second"), DUMP, FIXED)
    disc = attached_name(plug("drive", "second"), disc=True)
    assert list(to_attach(wanted, LAUNCHER)) == ["data", disc, "dump"]
    assert list(to_attach(spec(plug("drive", "first")), LAUNCHER)) == [], "it is in the launcher's Pod"


def test_the_discs_of_a_drive_have_names_of_their_own() -> None:
    one, other = (attached_name(plug("drive", claim), disc=True) for claim in ("first", "second"))
    assert one != other
    assert one.startswith("drive-")
    assert attached_name(plug("drive", "first"), disc=False) == "drive"


def test_a_drive_without_its_disc_stays() -> None:
    found = without({"spec": spec(plug("data", "c"), plug("drive", "d"), FIXED)}, {"data", "drive"})["spec"]
    assert [disk["name"] for disk in found["domain"]["devices"]["disks"]] == ["drive"]
    assert found["volumes"] == [FIXED]
