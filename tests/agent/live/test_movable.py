"""What keeps a machine on its node, by KubeVirt's reasons, all at once."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.agent.live import status
from polyvisor.agent.live.movable import STANDALONE, blockers, copied
from polyvisor.drivers import registry
from polyvisor.drivers.base import LauncherPlan
from polyvisor.drivers.qemu import QemuDriver

Obj = dict[str, Any]
RWX: Obj = {"spec": {"accessModes": ["ReadWriteMany"]}}
RWO: Obj = {"spec": {"accessModes": ["ReadWriteOnce"]}}
CLAIMS = {"shared": RWX, "own": RWO}


def machine(*volumes: Obj, disks: list[Obj] | None = None, status: Obj | None = None, **domain: Any) -> Obj:
    devices: Obj = {
        "disks": disks or [{"name": one["name"], "disk": {}} for one in volumes],
        **domain.pop("devices", {}),
    }
    spec = {"domain": {"devices": devices, **domain}, "volumes": list(volumes), "networks": [{"name": "d", "pod": {}}]}
    return {"metadata": {"name": "m"}, "spec": spec, "status": status or {}}


def of_claim(claim: str) -> Obj:
    return {"name": "v", "persistentVolumeClaim": {"claimName": claim}}


def card(**how: Any) -> Obj:
    return {"interfaces": [{"name": "d", **how}]}


IMAGE: Obj = {"name": "v", "containerDisk": {"image": "i"}}


@pytest.mark.parametrize(
    ("vmi", "reasons"),
    [
        (machine(), []),
        (machine(of_claim("shared")), []),
        (machine(of_claim("own")), ["DisksNotLiveMigratable"]),
        (machine(of_claim("missing")), ["DisksNotLiveMigratable"]),
        (machine({"name": "v", "hostDisk": {"path": "/d"}}), ["DisksNotLiveMigratable"]),
        (machine({"name": "v", "cloudInitNoCloud": {"userData": ""}}), []),
        (machine({"name": "v", "configMap": {"name": "c"}}), []),
        (
            machine(of_claim("shared"), devices={"filesystems": [{"name": "v", "virtiofs": {}}]}),
            ["VirtIOFSNotLiveMigratable"],
        ),
        (
            machine(of_claim("shared"), status={"volumeStatus": [{"name": "v", "hotplugVolume": {}}]}),
            ["HotplugNotLiveMigratable"],
        ),
        (machine(devices=card(masquerade={})), []),
        (machine(devices=card(bridge={})), ["InterfaceNotLiveMigratable"]),
        (machine(devices=card(sriov={})), ["InterfaceNotLiveMigratable"]),
        (machine(devices={"gpus": [{"name": "g"}]}), ["HostDeviceNotLiveMigratable"]),
        (machine(devices={"tpm": {}}), ["NotMigratable"]),
        (machine(devices={"tpm": {"enabled": False}}), []),
        (machine(devices={"tpm": {"persistent": True}}), ["DisksNotLiveMigratable"]),
        (machine(launchSecurity={"sev": {}}), ["SEVNotLiveMigratable"]),
        (machine(features={"hypervPassthrough": {"enabled": True}}), ["HypervPassthroughNotLiveMigratable"]),
        (machine(cpu={"dedicatedCpuPlacement": True}), ["NotMigratable"]),
        (machine(of_claim("own"), devices=card(bridge={})), ["DisksNotLiveMigratable", "InterfaceNotLiveMigratable"]),
    ],
)
def test_each_thing_that_keeps_a_machine_is_named(vmi: Obj, reasons: list[str]) -> None:
    assert [str(one.reason) for one in blockers(vmi, QemuDriver(), CLAIMS)] == reasons


def test_a_bridged_interface_moves_where_its_owner_says_that_it_may() -> None:
    vmi = machine(devices=card(bridge={}))
    vmi["metadata"]["annotations"] = {"kubevirt.io/allow-pod-bridge-network-live-migration": ""}
    assert blockers(vmi, QemuDriver(), {}) == []


def test_a_driver_says_by_its_table_why_it_cannot() -> None:
    for driver in registry():
        found = blockers(machine(), driver, {})
        assert bool(found) is (driver.name != "qemu"), driver.name
        assert all(one.reason == "NotMigratable" and driver.title in one.message for one in found)


def test_conditions_have_every_reason_and_disks_apart() -> None:
    vmi = machine(of_claim("own"))
    found = blockers(vmi, QemuDriver(), CLAIMS, STANDALONE)
    new = status.running(vmi, {"state": "running"}, {}, QemuDriver(), {}, blockers=found)
    told = {one["type"]: one for one in new["conditions"]}
    assert told["LiveMigratable"]["status"] == "False"
    assert told["LiveMigratable"]["message"] == "; ".join(one.message for one in found)
    assert told["StorageLiveMigratable"]["message"] == STANDALONE
    new = status.running(vmi, {"state": "running"}, {}, QemuDriver(), {}, blockers=[])
    told = {one["type"]: one["status"] for one in new["conditions"]}
    assert (told["LiveMigratable"], told["StorageLiveMigratable"]) == ("True", "True")


@pytest.mark.parametrize(
    ("vmi", "disks"),
    [
        (machine({"name": "v", "ephemeral": {"persistentVolumeClaim": {"claimName": "own"}}}), ["v"]),
        (machine({"name": "v", "emptyDisk": {"capacity": "1Gi"}}), ["v"]),
        (machine(IMAGE), ["v"]),
        (machine(IMAGE, disks=[{"name": "v", "cdrom": {}}]), []),
        (machine(IMAGE, disks=[{"name": "v", "disk": {"readonly": True}}]), []),
        (machine(of_claim("shared")), []),
    ],
)
def test_disks_on_the_node_are_copied_where_the_driver_can(
    vmi: Obj, disks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert copied(vmi) == disks
    assert blockers(vmi, QemuDriver(), CLAIMS) == []
    new = status.running(vmi, {"state": "running"}, {}, QemuDriver(), {}, blockers=[])
    assert new["migrationMethod"] == ("BlockMigration" if disks else "LiveMigration")
    monkeypatch.setattr(QemuDriver, "launcher", lambda *_: LauncherPlan(uri=""))
    assert [str(one.reason) for one in blockers(vmi, QemuDriver(), CLAIMS)] == ["DisksNotLiveMigratable"] * len(disks)
