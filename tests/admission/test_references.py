"""What a machine's references stand for: revisions, claims that name them; and the rules of the objects themselves."""

from __future__ import annotations

import copy

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api import Obj
from polyvisor.api.resources import (
    CLUSTER_INSTANCETYPES,
    CLUSTER_PREFERENCES,
    CONTROLLER_REVISIONS,
    INSTANCETYPES,
    PREFERENCES,
    PVCS,
    VMS,
    Resource,
)
from tests.admission.conftest import machine
from tests.admission.shelf import Shelf, instance_spec, refused, sized
from tests.admission.test_instancetypes import FULL
from tests.admission.test_preferences import PREFERRED


def revision(resource: Resource, name: str, spec: Obj) -> Obj:
    metadata = {"name": name, "uid": "u", "generation": 1}
    data = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "spec": spec}
    return {"data": data, "revision": 0}


def test_what_was_kept_holds_and_not_what_is_there_now(context: AdmissionContext, shelf: Shelf) -> None:
    kept = revision(CLUSTER_INSTANCETYPES, "small", {"cpu": {"guest": 1}, "memory": {"guest": "32Mi"}})
    shelf.put(CONTROLLER_REVISIONS, "kept", **kept)
    reference = {
        "name": "small",
        "kind": "virtualmachineclusterinstancetype",
        "controllerRevisionRef": {"name": "kept"},
    }
    status = {"instancetypeRef": reference}
    assert instance_spec(sized(), shelf, status)["domain"]["memory"] == {"guest": "32Mi"}
    other = sized(kind="VirtualMachineInstancetype")
    assert instance_spec(other, shelf, status)["domain"]["memory"] == {"guest": "64Mi"}
    shelf.put(CLUSTER_INSTANCETYPES, "large", {"cpu": {"guest": 1}, "memory": {"guest": "1Gi"}})
    renamed = sized()
    renamed["spec"]["instancetype"]["name"] = "large"
    assert instance_spec(renamed, shelf, status)["domain"]["memory"] == {"guest": "1Gi"}
    named = sized()
    named["spec"]["instancetype"]["revisionName"] = "kept"
    assert instance_spec(named, shelf)["domain"]["memory"] == {"guest": "32Mi"}
    shelf.put(CONTROLLER_REVISIONS, "kept", data={"spec": {}}, revision=0)
    ((field, message),) = refused(named, context)
    assert field == "spec.instancetype.revisionName"
    assert "is no revision of a VirtualMachineClusterInstancetype" in message


def test_a_machine_that_names_its_claim_gets_what_the_claims_labels_say(
    context: AdmissionContext, shelf: Shelf
) -> None:
    def change(template: Obj) -> None:
        template["volumes"][0] = {"name": "root", "persistentVolumeClaim": {"claimName": "disk"}}

    prefix = "instancetype.kubevirt.io/default"
    labels = {
        f"{prefix}-instancetype": "small",
        f"{prefix}-instancetype-kind": "VirtualMachineInstancetype",
        f"{prefix}-preference": "plain",
    }
    shelf.put(PVCS, "disk", {}, metadata={"labels": labels})
    vm = sized(change)
    vm["spec"] |= {"instancetype": {"inferFromVolume": "root"}, "preference": {"inferFromVolume": "root"}}
    found = admit("CREATE", VMS, vm, None, context)
    assert found.problems == []
    assert found.obj["spec"]["instancetype"] == {"name": "small", "kind": "VirtualMachineInstancetype"}
    assert found.obj["spec"]["preference"] == {"name": "plain"}


def from_data_volume(labels: Obj, source: Obj) -> Obj:
    def change(template: Obj) -> None:
        template["volumes"][0] = {"name": "root", "dataVolume": {"name": "made"}}

    spec = {"source": {"pvc": source}, "storage": {"resources": {"requests": {"storage": "1Gi"}}}}
    made = {"metadata": {"name": "made", "labels": labels}, "spec": spec}
    return machine(change, preference={"inferFromVolume": "root"}, dataVolumeTemplates=[made])


def test_a_template_of_a_data_volume_or_its_source_says_it_too(context: AdmissionContext, shelf: Shelf) -> None:
    label = {"instancetype.kubevirt.io/default-preference": "plain"}
    shelf.put(PVCS, "golden", {}, metadata={"labels": label})
    for labels, source in ((label, {"name": "nosuch"}), ({}, {"name": "golden"})):
        found = admit("CREATE", VMS, from_data_volume(labels, {"namespace": "default", **source}), None, context)
        assert found.problems == []
        assert found.obj["spec"]["preference"] == {"name": "plain"}
    ((field, said),) = refused(from_data_volume({}, {"name": "golden", "namespace": "other"}), context)
    assert field == "spec.preference.inferFromVolume"
    assert "another namespace" in said


def test_data_volumes_are_made_in_the_preferred_storage_class(context: AdmissionContext, shelf: Shelf) -> None:
    shelf.put(CLUSTER_PREFERENCES, "plain", {"volumes": {"preferredStorageClassName": "fast"}})
    vm = from_data_volume(
        {"instancetype.kubevirt.io/default-preference": "plain"}, {"name": "g", "namespace": "default"}
    )
    made = admit("CREATE", VMS, vm, None, context).obj["spec"]["dataVolumeTemplates"][0]["spec"]
    assert made["storage"]["storageClassName"] == "fast"
    vm["spec"]["dataVolumeTemplates"][0]["spec"]["storage"]["storageClassName"] = "slow"
    made = admit("CREATE", VMS, vm, None, context).obj["spec"]["dataVolumeTemplates"][0]["spec"]
    assert made["storage"]["storageClassName"] == "slow"


@pytest.mark.parametrize(
    ("volume", "more", "field", "said"),
    [
        ("nosuch", {}, "spec.preference.inferFromVolume", "known: root, seed"),
        ("seed", {}, "spec.preference.inferFromVolume", "neither persistentVolumeClaim nor dataVolume"),
        ("root", {}, "spec.preference.inferFromVolume", "has no label instancetype.kubevirt.io/default-preference"),
        ("root", {"name": "plain"}, "spec.preference.inferFromVolume", "exclude each other"),
    ],
)
def test_what_cannot_be_inferred_is_refused(
    context: AdmissionContext, shelf: Shelf, volume: str, more: Obj, field: str, said: str
) -> None:
    def change(template: Obj) -> None:
        template["volumes"][0] = {"name": "root", "persistentVolumeClaim": {"claimName": "disk"}}

    shelf.put(PVCS, "disk", {})
    found = refused(machine(change, preference={"inferFromVolume": volume, **more}), context)
    assert found[0][0] == field
    assert said in found[0][1]


def test_a_preference_that_may_be_missing_is_left_out_with_a_warning(context: AdmissionContext, shelf: Shelf) -> None:
    def change(template: Obj) -> None:
        template["volumes"][0] = {"name": "root", "persistentVolumeClaim": {"claimName": "disk"}}

    vm = machine(change, preference={"inferFromVolume": "root", "inferFromVolumeFailurePolicy": "Ignore"})
    missing = admit("CREATE", VMS, vm, None, context)
    assert [one.message for one in missing.problems] == ['persistentvolumeclaims "disk" not found']
    shelf.put(PVCS, "disk", {})
    found = admit("CREATE", VMS, vm, None, context)
    assert found.problems == []
    assert "preference" not in found.obj["spec"]
    assert any("names none" in one for one in found.warnings)


@pytest.mark.parametrize(
    ("resource", "spec", "field"),
    [
        (INSTANCETYPES, {"cpu": {"guest": -1}, "memory": {"guest": "64Mi"}}, "spec.cpu.guest"),
        (INSTANCETYPES, {"cpu": {"guest": 1}, "memory": {"guest": "1"}}, "spec.memory.guest"),
        (INSTANCETYPES, {"cpu": {"guest": 1}}, "spec.memory"),
        (CLUSTER_INSTANCETYPES, {"cpu": {"guest": 1, "gest": 2}, "memory": {"guest": "1Gi"}}, "spec.cpu.gest"),
        (
            INSTANCETYPES,
            {"cpu": {"guest": 1}, "memory": {"guest": "1Gi", "overcommitPercent": 101}},
            "spec.memory.overcommitPercent",
        ),
        (
            INSTANCETYPES,
            {"cpu": {"guest": 1}, "memory": {"guest": "1Gi", "overcommitPercent": 1, "hugepages": {"pageSize": "2Mi"}}},
            "spec.memory.overcommitPercent",
        ),
        (PREFERENCES, {"preferredHypervisor": {"driver": "nosuch"}}, "spec.preferredHypervisor.driver"),
        (PREFERENCES, {"cpu": {"preferredCPUTopology": "flat"}}, "spec.cpu.preferredCPUTopology"),
        (PREFERENCES, {"cpu": {"spreadOptions": {"ratio": 0}}}, "spec.cpu.spreadOptions.ratio"),
        (
            PREFERENCES,
            {"cpu": {"preferredCPUTopology": "spread", "spreadOptions": {"across": "CoresThreads", "ratio": 4}}},
            "spec.cpu.spreadOptions.ratio",
        ),
        (PREFERENCES, {"firmware": {"preferredUseBios": True, "preferredUseEfi": True}}, "spec.firmware"),
        (CLUSTER_PREFERENCES, {"devices": {"preferredDiskBus": "ide"}}, "spec.devices.preferredDiskBus"),
        (
            CLUSTER_PREFERENCES,
            {"devices": {"preferredAutoattachInputDevice": True}},
            "spec.devices.preferredAutoattachInputDevice",
        ),
    ],
)
def test_rules_for_the_objects_themselves(context: AdmissionContext, resource: Resource, spec: Obj, field: str) -> None:
    obj: Obj = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": "x", **({"namespace": "default"} if resource.namespaced else {})},
        "spec": spec,
    }
    found = admit("CREATE", resource, obj, None, context)
    assert [one.field for one in found.problems] == [field]
    assert admit("UPDATE", resource, obj, obj, context).problems == []


def test_older_words_for_a_topology_are_taken_with_a_warning(context: AdmissionContext) -> None:
    kind = {"apiVersion": CLUSTER_PREFERENCES.api_version, "kind": CLUSTER_PREFERENCES.kind, "metadata": {"name": "x"}}
    obj: Obj = {**kind, "spec": {"cpu": {"preferredCPUTopology": "preferSockets"}}}
    found = admit("CREATE", CLUSTER_PREFERENCES, obj, None, context)
    assert (found.problems, found.warnings) == (
        [],
        ["spec.cpu.preferredCPUTopology: preferSockets is deprecated; use sockets"],
    )


def test_the_full_ones_of_these_tests_are_right(context: AdmissionContext) -> None:
    for resource, spec in ((CLUSTER_INSTANCETYPES, FULL), (CLUSTER_PREFERENCES, PREFERRED)):
        obj: Obj = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": "x"},
            "spec": copy.deepcopy(spec),
        }
        assert admit("CREATE", resource, obj, None, context).problems == []
