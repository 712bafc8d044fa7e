"""What a move to another driver or host is said to change, lose and refuse, and the machine that it makes."""

from __future__ import annotations

import json
from typing import Any

from polyvisor.admission import AdmissionContext
from polyvisor.adoption.moving import Finding, Outcome, Target, claims, moved, preflight
from polyvisor.api import Obj
from polyvisor.drivers import registry

DRIVERS = registry()


def machine(*volumes: Obj, hypervisor: Obj | None = None, **domain: Any) -> Obj:
    devices = {"devices": {"disks": [{"name": one["name"], "disk": {}} for one in volumes]}}
    template = {
        "metadata": {"annotations": {"hypervisor.kubevirt.io/adopt": "u", "mine": "stays"}},
        "spec": {
            "hypervisor": hypervisor or {"driver": "qemu"},
            "domain": {"memory": {"guest": "64Mi"}, **devices, **domain},
            "volumes": list(volumes),
        },
    }
    metadata = {"name": "web", "namespace": "default", "uid": "u-1"}
    spec = {"runStrategy": "Halted", "template": template}
    return {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": metadata, "spec": spec}


def target(driver: str, **spec: Any) -> Target:
    found = DRIVERS.get(driver)
    assert found is not None
    endpoint = {"metadata": {"name": "rack4"}, "spec": {"uri": "x", **spec}} if spec else None
    return Target(found, endpoint, "images" if spec else "")


def check(vm: Obj, to: Target, sizes: dict[str, int] | None = None, **more: Any) -> list[Finding]:
    context = AdmissionContext({}, DRIVERS)
    return preflight(vm, to, sizes or {}, more.get("snapshots", 0), more.get("available"), context)


def said(found: list[Finding], subject: str) -> list[tuple[str, str]]:
    return [(str(one.outcome), one.message) for one in found if one.subject == subject]


CLAIM = {"name": "data", "persistentVolumeClaim": {"claimName": "disk"}}
OLDER = {"name": "older", "dataVolume": {"name": "disk-2"}}


def test_the_machine_after_a_move_has_the_new_claims_and_remembers_the_old_ones() -> None:
    vm = machine(CLAIM, OLDER)
    vm["spec"]["dataVolumeTemplates"] = [{"metadata": {"name": "disk-2"}}, {"metadata": {"name": "other"}}]
    new = moved(vm, target("qemu", networks=[]), {"disk": "disk-rack4", "disk-2": "disk-2-rack4"}, "Delete")
    spec = new["spec"]["template"]["spec"]
    assert spec["hypervisor"] == {"endpoint": "rack4"}
    assert spec["volumes"] == [
        {"name": "data", "dataVolume": {"name": "disk-rack4"}},
        {"name": "older", "dataVolume": {"name": "disk-2-rack4"}},
    ]
    assert new["spec"]["dataVolumeTemplates"] == [{"metadata": {"name": "other"}}]
    assert new["spec"]["template"]["metadata"]["annotations"] == {"mine": "stays"}
    note = json.loads(new["metadata"]["annotations"]["hypervisor.kubevirt.io/moved"])
    assert note == {"claims": ["disk", "disk-2"], "from": "qemu", "policy": "Delete", "to": "rack4"}
    assert vm == {**machine(CLAIM, OLDER), "spec": vm["spec"]}


def test_a_virt_type_goes_along_only_where_the_driver_has_it() -> None:
    vm = machine(hypervisor={"driver": "qemu", "virtType": "qemu"})
    assert moved(vm, target("qemu", networks=[]), {}, "")["spec"]["template"]["spec"]["hypervisor"] == {
        "endpoint": "rack4",
        "virtType": "qemu",
    }
    assert moved(vm, target("xen"), {}, "")["spec"]["template"]["spec"]["hypervisor"] == {"driver": "xen"}


def test_dumps_and_layers_above_claims_are_not_copied() -> None:
    dump = {"name": "d", "memoryDump": {"claimName": "dumps"}}
    layer = {"name": "e", "ephemeral": {"persistentVolumeClaim": {"claimName": "below"}}}
    assert claims(machine(CLAIM, dump, layer)) == ["disk"]
    found = check(machine(CLAIM, layer), target("qemu", networks=[]), {"disk": 1})
    assert ("refused", "volume e is a layer above a claim that stays where it is") in said(found, "volume")


def test_what_the_other_driver_cannot_do_is_refused_with_the_change_that_helps() -> None:
    vm = machine(CLAIM)
    vm["spec"]["template"]["spec"]["domain"]["devices"]["disks"][0]["disk"]["bus"] = "virtio"
    found = [one for one in check(vm, target("esx", networks=[]), {"disk": 1}) if one.outcome is Outcome.REFUSED]
    assert any("bus" in one.message and "bus" in one.suggestion for one in found)


def test_a_bus_that_each_driver_chooses_for_itself_is_said_to_change() -> None:
    found = check(machine(CLAIM), target("esx", networks=[]), {"disk": 1})
    assert [outcome for outcome, _ in said(found, "bus")] == ["changes"]
    assert [outcome for outcome, _ in said(check(machine(CLAIM), target("qemu", networks=[]), {"disk": 1}), "bus")] == [
        "stays"
    ]


def test_a_network_that_is_not_mapped_is_refused_and_one_that_is_changes_addresses() -> None:
    vm = machine()
    vm["spec"]["template"]["spec"]["networks"] = [{"name": "default", "pod": {}}]
    vm["spec"]["template"]["spec"]["domain"]["devices"]["interfaces"] = [{"name": "default", "masquerade": {}}]
    assert said(check(vm, target("qemu", networks=[])), "network")[0][0] == "refused"
    found = check(vm, target("qemu", networks=[{"name": "pod", "network": "lan"}]))
    assert not said(found, "network")
    assert said(found, "address")[0][0] == "changes"


def test_a_host_that_takes_no_machines_is_refused() -> None:
    to = target("qemu", networks=[])
    assert to.endpoint is not None
    to.endpoint["status"] = {"conditions": [{"type": "Schedulable", "status": "False", "message": "it is away"}]}
    assert said(check(machine(), to), "endpoint") == [("refused", "endpoint rack4 takes no machines now: it is away")]


def test_settings_of_the_guest_s_network_are_pointed_out() -> None:
    seed = {"name": "seed", "cloudInitNoCloud": {"userData": "#cloud-config", "networkData": "version: 2"}}
    assert "network settings of its own" in said(check(machine(seed), target("qemu", networks=[])), "address")[0][1]


def test_what_is_lost_is_said() -> None:
    vm = machine(firmware={"bootloader": {"efi": {"persistent": True}}})
    vm["metadata"]["annotations"] = {"hypervisor.kubevirt.io/kept-of-domain": "devices/tpm"}
    found = check(vm, target("qemu", networks=[]), snapshots=2)
    lost = {one.subject for one in found if one.outcome is Outcome.LOST}
    assert lost == {"firmware", "snapshots", "domain"}


def test_too_little_room_is_said_before() -> None:
    found = check(machine(CLAIM), target("qemu", networks=[]), {"disk": 100}, available=10)
    assert said(found, "space") == [("changes", "the disks have 100 bytes, and 10 are free where they go")]
