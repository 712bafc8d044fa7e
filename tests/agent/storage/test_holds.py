"""What a machine has to itself, and who has to wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.errors import AgentError
from polyvisor.agent.storage.holds import Holds, Use, conflict, uses

Obj = dict[str, Any]
ROOT = Path("/disks")
PVC: Obj = {"persistentVolumeClaim": {"claimName": "c"}}
SHARED: Obj = {"disk": {}, "shareable": True}
READ: Obj = {"disk": {"readonly": True}}


def machine(name: str, source: Obj, disk: Obj | None = None, *, namespace: str = "default", target: str = "") -> Obj:
    disks = [{"name": "v", **disk}] if disk is not None else []
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": name},
        "spec": {"domain": {"devices": {"disks": disks}}, "volumes": [{"name": "v", **source}]},
        "status": {"phase": "Running", "volumeStatus": [{"name": "v", "target": target}]},
    }


def claims(*modes: str) -> dict[str, Obj]:
    return {"c": {"spec": {"accessModes": list(modes)}}}


@pytest.mark.parametrize(
    ("source", "disk", "use"),
    [
        (PVC, None, Use.WRITE),
        (PVC, {"disk": {}}, Use.WRITE),
        (PVC, {"lun": {}}, Use.WRITE),
        ({"dataVolume": {"name": "c"}}, {"disk": {}}, Use.WRITE),
        ({"ephemeral": PVC}, {"disk": {}}, Use.READ),
        (PVC, READ, Use.READ),
        (PVC, {"lun": {"readonly": True}}, Use.READ),
        (PVC, {"cdrom": {}}, Use.READ),
        (PVC, SHARED, Use.SHARE),
    ],
)
def test_what_a_volume_is_used_for(source: Obj, disk: Obj | None, use: Use) -> None:
    thing = ("PersistentVolumeClaim", "default/c")
    assert uses(machine("m", source, disk), claims("ReadWriteOnce"), ROOT) == {thing: use}


@pytest.mark.parametrize("path", ["a/b.img", "/disks/default/a/b.img", "/disks/default//a/./b.img"])
def test_a_host_disk_is_the_same_by_all_its_names(path: str) -> None:
    found = uses(machine("m", {"hostDisk": {"path": path, "type": "Disk"}}, {"disk": {}}), {}, ROOT)
    assert found == {("host disk", "default/a/b.img"): Use.WRITE}


def test_what_is_not_held() -> None:
    assert uses(machine("m", PVC), claims("ReadWriteOnce", "ReadWriteMany"), ROOT) == {}
    assert uses(machine("m", {"emptyDisk": {"capacity": "1Mi"}}), {}, ROOT) == {}
    plugged = {"persistentVolumeClaim": {"claimName": "c", "hotpluggable": True}}
    assert uses(machine("m", plugged), {}, ROOT) == {}
    assert len(uses(machine("m", plugged, target="sda"), {}, ROOT)) == 1
    drive = machine("m", plugged, {"cdrom": {}}, target="sda")
    drive["status"]["volumeStatus"][0] |= {"phase": "Pending", "hotplugVolume": {}}
    assert uses(drive, {}, ROOT) == {}, "a drive has its name though its disc has not come"
    dump = machine("m", {"memoryDump": {"claimName": "c"}})
    assert uses(dump, {}, ROOT) == {}
    dump["status"]["volumeStatus"][0] |= {"phase": "MemoryDumpInProgress", "memoryDumpVolume": {}}
    assert list(uses(dump, {}, ROOT).values()) == [Use.WRITE]


@pytest.mark.parametrize(
    ("mine", "theirs", "free"),
    [
        ({"disk": {}}, {"disk": {}}, False),
        (READ, READ, True),
        (READ, {"disk": {}}, False),
        ({"disk": {}}, READ, False),
        (SHARED, SHARED, True),
        (SHARED, {"disk": {}}, False),
        ({"disk": {}}, SHARED, False),
        (READ, SHARED, False),
    ],
)
def test_who_can_have_it_together(mine: Obj, theirs: Obj, free: bool) -> None:
    first, other = machine("a", PVC, mine), machine("b", PVC, theirs)
    taken = conflict(uses(first, {}, ROOT), [(other, uses(other, {}, ROOT))])
    assert (taken == "") == free
    if not free:
        assert "PersistentVolumeClaim default/c is in use by VirtualMachineInstance default/b" in taken


def test_a_claim_of_the_same_name_elsewhere_is_another() -> None:
    other = machine("b", PVC, namespace="other")
    assert conflict(uses(machine("a", PVC), {}, ROOT), [(other, uses(other, {}, ROOT))]) == ""


def test_who_starts_first_has_it_until_it_is_over() -> None:
    one, two = machine("one", PVC), machine("two", PVC)
    running: set[str] = set()
    holds = Holds(lambda: [one, two], lambda vmi: vmi["metadata"]["uid"] in running, ROOT)

    def start(vmi: Obj) -> None:
        with holds.starting(vmi, {}):
            pass

    with holds.starting(one, {}), pytest.raises(AgentError) as refused:
        start(two)
    assert (refused.value.reason, refused.value.retry) == ("VolumeInUse", True)
    start(two)  # one did not come to run
    running.add("two")
    with pytest.raises(AgentError):
        start(one)
    assert holds.waiting() == {"one", "two"}
    assert holds.waiting() == set()
    start(two)  # nobody is in its own way
    two["status"]["phase"] = "Succeeded"
    start(one)


def test_what_came_while_it_ran_is_held_before_the_status_tells_of_it() -> None:
    plug = {"persistentVolumeClaim": {"claimName": "c", "hotpluggable": True}}
    one, two = machine("one", plug), machine("two", plug)
    holds = Holds(lambda: [one, two], lambda _: True, ROOT)

    def take(vmi: Obj) -> None:
        holds.take(vmi, vmi["spec"]["volumes"][0], {})

    take(one)
    take(one)
    with pytest.raises(AgentError, match="default/one") as refused:
        take(two)
    assert refused.value.reason == "VolumeInUse"
    with pytest.raises(AgentError), holds.starting(machine("three", PVC), {}):
        pass
    holds.keep("one", {"v"})
    with pytest.raises(AgentError):
        take(two)
    holds.keep("one", ())
    take(two)
    holds.forget("two")
    take(one)
    one["status"]["phase"] = "Succeeded"
    take(two)
