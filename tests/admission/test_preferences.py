"""Preferences: what they fill in, leave alone and ask for; and that they are named when that cannot be had."""

from __future__ import annotations

import copy

from polyvisor.admission import AdmissionContext
from polyvisor.admission.instancetypes import expand
from polyvisor.admission.values import Findings
from polyvisor.api import Obj
from polyvisor.api.resources import CLUSTER_INSTANCETYPES, CLUSTER_PREFERENCES, PREFERENCES
from tests.admission.conftest import machine, put
from tests.admission.shelf import BASE, Shelf, instance_spec, refused, sized

PREFERRED: Obj = {
    "annotations": {"example.com/p": "1", "example.com/own": "preferred"},
    "clock": {"preferredClockOffset": {"timezone": "Europe/Berlin"}, "preferredTimer": {"hpet": {"present": False}}},
    "cpu": {"preferredCPUFeatures": [{"name": "x2apic"}, {"name": "avx", "policy": "disable"}]},
    "devices": {
        "preferredAutoattachGraphicsDevice": False,
        "preferredAutoattachMemBalloon": False,
        "preferredAutoattachSerialConsole": True,
        "preferredBlockMultiQueue": True,
        "preferredCdromBus": "sata",
        "preferredDisableHotplug": True,
        "preferredDiskBlockSize": {"custom": {"logical": 512, "physical": 4096}},
        "preferredDiskBus": "virtio",
        "preferredDiskCache": "none",
        "preferredDiskDedicatedIoThread": True,
        "preferredDiskIO": "native",
        "preferredInputBus": "usb",
        "preferredInputType": "tablet",
        "preferredInterfaceMasquerade": {},
        "preferredInterfaceModel": "e1000",
        "preferredNetworkInterfaceMultiQueue": True,
        "preferredPanicDeviceModel": "pvpanic",
        "preferredRng": {},
        "preferredUseVirtioTransitional": True,
        "preferredSoundModel": "ac97",
        "preferredTPM": {"persistent": False},
        "preferredVideoType": "virtio",
    },
    "features": {"preferredAcpi": {"enabled": True}, "preferredSmm": {}, "preferredHyperv": {"relaxed": {}}},
    "firmware": {"preferredEfi": {"secureBoot": False}},
    "machine": {"preferredMachineType": "q35"},
    "preferredArchitecture": "amd64",
    "preferredSubdomain": "inner",
    "volumes": {"preferredStorageClassName": "fast"},
    "preferredHypervisor": {"driver": "alpha"},
    "preferredTerminationGracePeriodSeconds": 7,
}


def test_a_preference_fills_in_all_that_is_open(shelf: Shelf) -> None:
    shelf.put(CLUSTER_PREFERENCES, "plain", PREFERRED)

    def change(template: Obj) -> None:
        devices = template["domain"]["devices"]
        devices["disks"] = [{"name": "root"}, {"name": "seed", "cdrom": {}}]
        devices["interfaces"] = [{"name": "default"}]
        devices |= {"inputs": [{"name": "i"}], "sound": {"name": "s"}, "panicDevices": [{}]}

    vm = machine(change, preference={"name": "plain"})
    found = Findings()
    expansion = expand(vm, None, shelf, found)
    assert expansion is not None
    spec, domain = expansion.spec, expansion.spec["domain"]
    devices = domain["devices"]
    root, seed = devices["disks"]
    assert root == {
        "name": "root",
        "disk": {"bus": "virtio"},
        "cache": "none",
        "io": "native",
        "blockSize": {"custom": {"logical": 512, "physical": 4096}},
        "dedicatedIOThread": True,
    }
    assert seed["cdrom"] == {"bus": "sata"}
    assert "dedicatedIOThread" not in seed
    assert devices["interfaces"] == [{"name": "default", "model": "e1000", "masquerade": {}}]
    assert devices["inputs"] == [{"name": "i", "bus": "usb", "type": "tablet"}]
    assert devices["sound"] == {"name": "s", "model": "ac97"}
    assert devices["panicDevices"] == [{"model": "pvpanic"}]
    for key, value in (
        ("autoattachGraphicsDevice", False),
        ("autoattachMemBalloon", False),
        ("autoattachSerialConsole", True),
        ("blockMultiQueue", True),
        ("disableHotplug", True),
        ("networkInterfaceMultiqueue", True),
        ("rng", {}),
        ("tpm", {"persistent": False}),
        ("useVirtioTransitional", True),
        ("video", {"type": "virtio"}),
    ):
        assert devices[key] == value, key
    assert domain["clock"] == {"timezone": "Europe/Berlin", "timer": {"hpet": {"present": False}}}
    assert domain["cpu"] == {"cores": 2, "features": PREFERRED["cpu"]["preferredCPUFeatures"]}
    assert domain["features"] == {"acpi": {"enabled": True}, "smm": {}, "hyperv": {"relaxed": {}}}
    assert domain["firmware"] == {"bootloader": {"efi": {"secureBoot": False}}}
    assert domain["machine"] == {"type": "q35"}
    assert (spec["architecture"], spec["terminationGracePeriodSeconds"]) == ("amd64", 7)
    assert (spec["hypervisor"], spec["subdomain"]) == ({"driver": "alpha"}, "inner")
    assert expansion.annotations["example.com/p"] == "1"


def test_what_the_machine_says_is_left_as_it_is(shelf: Shelf) -> None:
    shelf.put(CLUSTER_PREFERENCES, "plain", PREFERRED)
    own: Obj = {
        "hypervisor": {"driver": "beta"},
        "subdomain": "outer",
        "architecture": "arm64",
        "terminationGracePeriodSeconds": 0,
        "networks": [{"name": "default", "pod": {}}],
        "volumes": [{"name": "root", "emptyDisk": {"capacity": "1Mi"}}],
        "domain": {
            "clock": {"utc": {}, "timer": {"pit": {}}},
            "cpu": {"cores": 1, "features": [{"name": "x2apic", "policy": "require"}]},
            "memory": {"guest": "64Mi"},
            "features": {"acpi": {"enabled": False}, "smm": {"enabled": True}, "hyperv": {"vapic": {}}},
            "firmware": {"bootloader": {"bios": {}}},
            "machine": {"type": "pc"},
            "devices": {
                "autoattachGraphicsDevice": True,
                "autoattachMemBalloon": True,
                "autoattachSerialConsole": False,
                "blockMultiQueue": False,
                "disableHotplug": False,
                "useVirtioTransitional": False,
                "networkInterfaceMultiqueue": False,
                "rng": {},
                "tpm": {"persistent": True},
                "video": {"type": "vga"},
                "disks": [
                    {
                        "name": "root",
                        "disk": {"bus": "sata"},
                        "cache": "writeback",
                        "io": "threads",
                        "blockSize": {"matchVolume": {}},
                    }
                ],
                "interfaces": [{"name": "default", "model": "virtio", "bridge": {}}],
                "inputs": [{"name": "i", "bus": "virtio", "type": "tablet"}],
            },
        },
    }
    vm = machine(preference={"name": "plain"})
    vm["spec"]["template"]["spec"] = copy.deepcopy(own)
    vm["spec"]["template"]["metadata"]["annotations"] = {"example.com/own": "mine"}
    expansion = expand(vm, None, shelf, Findings())
    assert expansion is not None
    own["domain"]["cpu"]["features"].append({"name": "avx", "policy": "disable"})
    assert expansion.spec == own
    assert expansion.annotations["example.com/own"] == "mine"


def test_older_words_for_firmware(shelf: Shelf) -> None:
    for firmware, loader in (
        ({"preferredUseEfi": True, "preferredUseSecureBoot": False}, {"efi": {"secureBoot": False}}),
        ({"preferredUseEfi": True}, {"efi": {}}),
        ({"preferredUseBios": True, "preferredUseBiosSerial": True}, {"bios": {"useSerial": True}}),
        ({}, None),
    ):
        shelf.put(CLUSTER_PREFERENCES, "plain", {"firmware": firmware})
        domain = instance_spec(machine(preference={"name": "plain"}), shelf)["domain"]
        assert domain.get("firmware", {}).get("bootloader") == loader


REQUIRES: Obj = {"requirements": {"cpu": {"guest": 4}, "memory": {"guest": "1Gi"}, "architecture": "arm64"}}


def test_requirements_of_a_preference_are_held_against_the_instance_type(
    context: AdmissionContext, shelf: Shelf
) -> None:
    shelf.put(CLUSTER_PREFERENCES, "plain", REQUIRES)
    start = "failure checking preference requirements: insufficient"
    assert refused(sized(preference={"name": "plain"}), context) == [
        (
            "spec.instancetype",
            f"{start} CPU resources of 2 vCPU provided by instance type, preference requires 4 vCPU",
        ),
        (
            "spec.instancetype",
            f"{start} Memory resources of 128Mi provided by instance type, preference requires 1Gi",
        ),
    ]


def test_and_against_the_machine_itself(context: AdmissionContext, shelf: Shelf) -> None:
    shelf.put(CLUSTER_PREFERENCES, "plain", REQUIRES)
    vm = machine(put("architecture", "amd64"), preference={"name": "plain"})
    assert [field for field, _ in refused(vm, context)] == [
        f"{BASE}.cpu",
        f"{BASE}.memory",
        "spec.template.spec.architecture",
    ]
    enough = machine(put("domain.memory.guest", "1Gi"), preference={"name": "plain"})
    enough["spec"]["template"]["spec"]["domain"]["cpu"] = {"sockets": 2, "cores": 2}
    assert refused(enough, context) == []


def test_a_field_from_elsewhere_is_refused_with_where_it_comes_from(context: AdmissionContext, shelf: Shelf) -> None:
    shelf.put(PREFERENCES, "scsi", {"devices": {"preferredDiskBus": "scsi"}, "preferredHypervisor": {"driver": "beta"}})
    vm = sized(
        put("domain.devices.disks", [{"name": "root", "disk": {}}, {"name": "seed", "disk": {"bus": "virtio"}}]),
        preference={"name": "scsi", "kind": "VirtualMachinePreference"},
    )
    ((field, message),) = refused(vm, context)
    assert field == f"{BASE}.devices.disks[0].disk.bus"
    assert "there is no SCSI" in message
    assert message.endswith("(it comes from VirtualMachinePreference scsi)")
    shelf.put(CLUSTER_INSTANCETYPES, "small", {"cpu": {"guest": 2000}, "memory": {"guest": "64Mi"}})
    vm["spec"]["preference"] = {"name": "plain"}
    ((field, message),) = refused(vm, context)
    assert field == f"{BASE}.cpu"
    assert message.endswith("(it comes from VirtualMachineClusterInstancetype small)")
