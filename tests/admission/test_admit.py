"""Defaults, drivers, updates, and the objects that are not machines."""

from __future__ import annotations

import copy
import time
import uuid
from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit, defaults
from polyvisor.api import KubeVirtConfiguration, Obj
from polyvisor.api.resources import KUBEVIRTS, NAMESPACES, PODS, REFUSED, VMIS, VMS, Resource
from polyvisor.drivers import DriverRegistry
from tests.admission.conftest import ALPHA, BETA, Fake, instance, machine, no, put

DISKS = "domain.devices.disks"


def test_good_machines_are_admitted(context: AdmissionContext) -> None:
    for resource, obj in ((VMIS, instance()), (VMS, machine())):
        before = copy.deepcopy(obj)
        done = admit("CREATE", resource, obj, None, context)
        assert not done.problems
        assert not done.warnings
        assert obj == before


def test_of_a_new_instances_status_what_it_was_made_from_is_kept_alone(context: AdmissionContext) -> None:
    given = instance() | {"status": {"phase": "Running", "virtualMachineRevisionName": "revision-start-vm-u-1"}}
    done = admit("CREATE", VMIS, given, None, context)
    assert done.obj["status"] == {"phase": "Pending", "virtualMachineRevisionName": "revision-start-vm-u-1"}


def test_what_an_instance_is_given(context: AdmissionContext) -> None:
    def change(spec: Obj) -> None:
        del spec["networks"], spec["domain"]["cpu"], spec["domain"]["memory"]
        spec["domain"]["resources"] = {"requests": {"memory": "1Gi"}}
        spec["domain"]["devices"] = {"disks": [{"name": "root"}]}

    done = admit("CREATE", VMIS, instance(change), None, context)
    assert not done.problems
    assert done.obj["metadata"]["finalizers"] == ["kubevirt.io/foregroundDeleteVirtualMachine"]
    assert done.obj["status"] == {"phase": "Pending"}
    spec = done.obj["spec"]
    assert spec["terminationGracePeriodSeconds"] == 30
    assert spec["domain"]["cpu"] == {"cores": 1, "sockets": 1, "threads": 1}
    assert spec["domain"]["memory"] == {"guest": "1Gi"}
    assert spec["domain"]["devices"]["disks"] == [{"name": "root", "disk": {}}, {"name": "seed", "disk": {}}]
    assert spec["domain"]["devices"]["interfaces"] == [{"name": "default", "masquerade": {}}]
    assert spec["networks"] == [{"name": "default", "pod": {}}]
    again = admit("UPDATE", VMIS, done.obj, done.obj, context)
    assert again.obj == done.obj


def test_new_machines_tell_how_their_pci_devices_are_placed(context: AdmissionContext) -> None:
    name = "kubevirt.io/pci-topology-version"
    vmi = admit("CREATE", VMIS, instance(), None, context).obj
    assert vmi["metadata"]["annotations"][name] == "v3"
    vm = admit("CREATE", VMS, machine(), None, context).obj
    assert vm["spec"]["template"]["metadata"]["annotations"] == {name: "v3"}
    old = machine()
    changed = admit("UPDATE", VMS, old | {"spec": {**old["spec"], "runStrategy": "Manual"}}, old, context).obj
    assert not (changed["spec"]["template"].get("metadata") or {}).get("annotations")
    given = machine()
    given["spec"]["template"]["metadata"] = {"annotations": {name: "v2"}}
    assert admit("CREATE", VMS, given, None, context).obj["spec"]["template"]["metadata"]["annotations"] == {name: "v2"}


def test_what_a_guest_has_of_memory_is_asked_for_as_kubevirts_clients_expect(context: AdmissionContext) -> None:
    def limited(spec: Obj) -> None:
        spec["domain"]["resources"] = {"limits": {"memory": "4Gi"}}

    spec = admit("CREATE", VMIS, instance(), None, context).obj["spec"]
    assert spec["domain"]["resources"]["requests"]["memory"] == spec["domain"]["memory"]["guest"]
    spec = admit("CREATE", VMIS, instance(limited), None, context).obj["spec"]
    assert spec["domain"]["resources"] == {"limits": {"memory": "4Gi"}}


def test_an_instance_of_an_older_release_is_no_other_one_when_its_grace_changes(context: AdmissionContext) -> None:
    old = admit("CREATE", VMIS, instance(), None, context).obj
    del old["spec"]["domain"]["resources"]
    new = {**old, "spec": {**old["spec"], "terminationGracePeriodSeconds": 1}}
    assert admit("UPDATE", VMIS, new, old, context).problems == []


def test_cpus_that_follow_from_the_resources_are_left_to_them(context: AdmissionContext) -> None:
    def change(spec: Obj) -> None:
        del spec["domain"]["cpu"]
        spec["domain"]["resources"] = {"limits": {"cpu": 2}}

    assert "cpu" not in admit("CREATE", VMIS, instance(change), None, context).obj["spec"]["domain"]


def test_no_network_is_given_where_it_is_declined_or_cannot_be(context: AdmissionContext) -> None:
    def declined(spec: Obj) -> None:
        del spec["networks"], spec["domain"]["devices"]["interfaces"]
        spec["domain"]["devices"]["autoattachPodInterface"] = False

    def cannot(spec: Obj) -> None:
        del spec["networks"], spec["domain"]["devices"]["interfaces"]
        spec["hypervisor"] = {"driver": "gamma"}

    assert "networks" not in admit("CREATE", VMIS, instance(declined), None, context).obj["spec"]
    done = admit("CREATE", VMIS, instance(cannot), None, context)
    assert not done.problems
    assert "networks" not in done.obj["spec"]
    assert "no allowed driver" in done.warnings[0]


def test_a_machine_keeps_its_identity(context: AdmissionContext) -> None:
    first = admit("CREATE", VMS, machine(), None, context).obj
    other = admit("CREATE", VMS, machine(), None, context).obj
    firmware = first["spec"]["template"]["spec"]["domain"]["firmware"]
    assert firmware["uuid"] != other["spec"]["template"]["spec"]["domain"]["firmware"]["uuid"]
    replaced = admit("UPDATE", VMS, machine(put("domain.cpu.cores", 4)), first, context)
    assert not replaced.problems
    assert replaced.obj["spec"]["template"]["spec"]["domain"]["firmware"] == firmware


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({"runStrategy": None}, ["spec.runStrategy"]),
        ({"running": True}, ["spec.running"]),
        ({"runStrategy": None, "running": True}, []),
        ({"runStrategy": None, "running": False}, []),
        ({"runStrategy": "WaitAsReceiver"}, ["spec.runStrategy"]),
        ({"runStrategy": "always"}, ["spec.runStrategy"]),
        ({"template": None}, ["spec.template"]),
        ({"template": {}}, ["spec.template.spec"]),
        ({"updateVolumesStrategy": "Replacement"}, ["spec.updateVolumesStrategy"]),
        *(({"runStrategy": s}, []) for s in ("Always", "Halted", "Manual", "RerunOnFailure", "Once")),
    ],
)
def test_run_strategies(spec: Obj, fields: list[str], context: AdmissionContext) -> None:
    assert [p.field for p in admit("CREATE", VMS, machine(**spec), None, context).problems] == fields


# -- drivers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "field", "words"),
    [
        ({"driver": "aplha"}, ".driver", "known: alpha, beta, gamma; did you mean alpha?"),
        ({"driver": "turbo"}, ".driver", "turbo is driver alpha with virtType fast"),
        ({"driver": ""}, ".driver", "known: alpha"),
        ({"driver": "alpha", "anyOf": ["beta"]}, ".anyOf", "exclude each other"),
        ({"anyOf": []}, ".anyOf", "at least one driver"),
        ({"anyOf": ["alpha", "beta", "alpha"]}, ".anyOf[2]", "is spec.hypervisor.anyOf[0] already"),
        ({"anyOf": ["alpha", "delta"]}, ".anyOf[1]", "known: alpha"),
        ({"driver": "alpha", "virtType": "box"}, ".virtType", "accepted: alpha: fast, slow"),
        ({"anyOf": ["beta"], "virtType": "fast"}, ".virtType", "accepted: beta: box"),
        ({"virtType": "warp"}, ".virtType", "alpha: fast, slow; beta: box; gamma: box"),
    ],
)
def test_a_choice_that_cannot_be(choice: Obj, field: str, words: str, context: AdmissionContext) -> None:
    problems = admit("CREATE", VMIS, instance(put("hypervisor", choice)), None, context).problems
    assert [problem.field for problem in problems] == [f"spec.hypervisor{field}"]
    assert words in problems[0].message


def scsi_and_rng(choice: Obj | None) -> Any:
    def change(spec: Obj) -> None:
        put(f"{DISKS}.0.disk.bus", "scsi")(spec)
        put("domain.devices.rng", {})(spec)
        if choice is not None:
            spec["hypervisor"] = choice

    return change


def test_each_feature_that_a_named_driver_lacks_is_a_cause(context: AdmissionContext) -> None:
    problems = admit("CREATE", VMS, machine(scsi_and_rng({"driver": "beta"})), None, context).problems
    assert {problem.field: problem.feature for problem in problems} == {
        "spec.template.spec.domain.devices.disks[0].disk.bus": "disk.bus.scsi",
        "spec.template.spec.domain.devices.rng": "rng",
    }
    for problem in problems:
        assert "BETA" in problem.message
        assert "(a manual)" in problem.message
        assert "supported by alpha" in problem.message
    assert "there is no SCSI" in str(problems)


@pytest.mark.parametrize("choice", [None, {"anyOf": ["beta", "alpha"]}, {"virtType": "fast"}, {"driver": "alpha"}])
def test_one_driver_that_can_is_enough(choice: Obj | None, context: AdmissionContext) -> None:
    assert not admit("CREATE", VMIS, instance(scsi_and_rng(choice)), None, context).problems


def test_a_condition_on_the_virt_type_counts_when_it_is_given(context: AdmissionContext) -> None:
    choice = {"driver": "alpha", "virtType": "slow"}
    problems = admit("CREATE", VMIS, instance(scsi_and_rng(choice)), None, context).problems
    assert [problem.feature for problem in problems] == ["rng"]


def test_all_drivers_are_named_when_none_is_left(context: AdmissionContext) -> None:
    choice = {"anyOf": ["beta", "gamma"]}
    problems = admit("CREATE", VMIS, instance(scsi_and_rng(choice)), None, context).problems
    assert {problem.message.split(" with ")[1][:5].strip(" :") for problem in problems} == {"BETA", "GAMMA"}


def test_only_enabled_drivers_are_taken_by_default() -> None:
    context = AdmissionContext(
        KubeVirtConfiguration.model_validate({"hypervisors": [{"name": "beta"}]}), DriverRegistry([ALPHA, BETA])
    )
    assert admit("CREATE", VMIS, instance(scsi_and_rng(None)), None, context).problems
    done = admit("CREATE", VMIS, instance(scsi_and_rng({"driver": "alpha"})), None, context)
    assert not done.problems
    assert "alpha is not enabled" in done.warnings[0]
    aliased = AdmissionContext({"hypervisors": [{"name": "turbo"}]}, DriverRegistry([ALPHA, BETA]))
    assert not admit("CREATE", VMIS, instance(scsi_and_rng(None)), None, aliased).problems


def test_what_no_table_knows_is_refused(context: AdmissionContext, monkeypatch: pytest.MonkeyPatch) -> None:
    table = {key: value for key, value in ALPHA.features.items() if key != "volume.container-disk"}
    monkeypatch.setattr(ALPHA, "_features", table)
    problems = admit("CREATE", VMIS, instance(put("hypervisor", {"driver": "alpha"})), None, context).problems
    assert [problem.feature for problem in problems] == ["volume.container-disk"]


# -- updates -----------------------------------------------------------------------------------------------------------


def test_the_spec_of_an_instance_cannot_be_changed(context: AdmissionContext) -> None:
    stored = admit("CREATE", VMIS, instance(), None, context).obj
    assert not admit("UPDATE", VMIS, instance(), stored, context).problems
    problems = admit("UPDATE", VMIS, instance(put("domain.cpu.cores", 3)), stored, context).problems
    assert [(p.field, p.reason) for p in problems] == [("spec", "FieldValueForbidden")]


@pytest.mark.parametrize("resource", [VMIS, VMS])
def test_an_old_object_can_still_be_labelled_and_deleted(resource: Any, context: AdmissionContext) -> None:
    old = instance() if resource is VMIS else machine()
    spec = old["spec"] if resource is VMIS else old["spec"]["template"]["spec"]
    spec["fieldOfAnOlderRelease"] = 1
    spec["domain"].setdefault("firmware", {})["uuid"] = "5d307ca9-b3ef-428c-8861-06e72d69f223"
    new = copy.deepcopy(old)
    new["metadata"]["labels"] = {"a": "b"}
    assert not admit("UPDATE", resource, new, old, context).problems
    new["metadata"]["labels"] = {"a": "b c"}
    assert admit("UPDATE", resource, new, old, context).problems
    old["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    new = copy.deepcopy(old)
    new["metadata"]["finalizers"] = []
    assert not admit("UPDATE", resource, new, old, context).problems
    assert not admit("DELETE", resource, None, old, context).problems


def test_an_object_cannot_become_another(context: AdmissionContext) -> None:
    old = machine()
    old["metadata"]["uid"] = "1"
    new = machine()
    new["metadata"] |= {"uid": "2", "name": "b"}
    fields = {problem.field for problem in admit("UPDATE", VMS, new, old, context).problems}
    assert fields == {"metadata.uid", "metadata.name"}


# -- other kinds -------------------------------------------------------------------------------------------------------


def kubevirt(*hypervisors: Any) -> Obj:
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "KubeVirt",
        "metadata": {"name": "kubevirt", "namespace": "kubevirt"},
        "spec": {"configuration": {"hypervisors": list(hypervisors)}},
    }


@pytest.mark.parametrize(
    ("hypervisors", "field", "words"),
    [
        ([{"name": "bta"}], "[0].name", "did you mean beta?"),
        ([{"name": "beta"}, {"name": "beta"}], "[1].name", "already"),
        ([{}], "[0].name", "required; known: alpha, beta, gamma, turbo"),
        ([{"name": "beta", "launcherImage": "../x"}], "[0].launcherImage", "no image reference"),
        (["beta"], "[0]", "an object is wanted"),
    ],
)
def test_the_configuration(hypervisors: list[Any], field: str, words: str, context: AdmissionContext) -> None:
    problems = admit("CREATE", KUBEVIRTS, kubevirt(*hypervisors), None, context).problems
    assert [problem.field for problem in problems] == [f"spec.configuration.hypervisors{field}"]
    assert words in problems[0].message


def test_a_good_configuration(context: AdmissionContext) -> None:
    obj = kubevirt({"name": "turbo"}, {"name": "beta", "launcherImage": "registry/launcher:v1"})
    assert not admit("CREATE", KUBEVIRTS, obj, None, context).problems


def test_a_setting_of_kubevirts_that_means_nothing_here_is_kept_and_told(context: AdmissionContext) -> None:
    obj = kubevirt({"name": "beta"})
    obj["spec"]["certificateRotateStrategy"] = {"selfSigned": {}}
    obj["spec"]["configuration"]["developerConfiguration"] = {"featureGates": ["Sidecar"], "useEmulation": True}
    done = admit("CREATE", KUBEVIRTS, obj, None, context)
    assert done.problems == []
    assert done.obj == obj
    assert {warning.partition(":")[0] for warning in done.warnings} == {
        "spec.certificateRotateStrategy",
        "spec.configuration.developerConfiguration.featureGates Sidecar",
    }


def test_a_setting_that_nobody_knows_is_refused(context: AdmissionContext) -> None:
    obj = kubevirt({"name": "beta"})
    obj["spec"]["configuration"]["machineTyp"] = "q35"
    assert [p.reason for p in admit("CREATE", KUBEVIRTS, obj, None, context).problems] == ["FieldValueUnknown"]


@pytest.mark.parametrize("resource", REFUSED, ids=lambda resource: resource.kind)
def test_a_kind_that_is_known_by_name_alone(resource: Resource, context: AdmissionContext) -> None:
    obj = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": "a"}, "spec": {"x": 1}}
    (problem,) = admit("CREATE", resource, obj, None, context).problems
    assert problem.field == "kind"
    assert problem.message == f"{resource.kind} is not implemented by Polyvisor yet; {resource.refused}"


@pytest.mark.parametrize(
    ("resource", "name", "good"),
    [(PODS, "a.b", True), (PODS, "../b", False), (NAMESPACES, "a", True), (NAMESPACES, "a.b", False)],
)
def test_names_of_all_kinds(resource: Any, name: str, good: bool, context: AdmissionContext) -> None:
    obj = {"apiVersion": "v1", "kind": resource.kind, "metadata": {"name": name}}
    assert (not admit("CREATE", resource, obj, None, context).problems) is good


@pytest.mark.parametrize("obj", [None, 3, "x", [], {}])
@pytest.mark.parametrize("resource", [VMS, VMIS, KUBEVIRTS, PODS])
def test_what_is_no_object(resource: Any, obj: Any, context: AdmissionContext) -> None:
    assert admit("CREATE", resource, obj, None, context).problems


def test_admission_is_fast(context: AdmissionContext) -> None:
    obj = machine()
    admit("CREATE", VMS, obj, None, context)
    rounds = []
    for _ in range(30):
        started = time.process_time()
        admit("CREATE", VMS, obj, None, context)
        rounds.append(time.process_time() - started)
    assert min(rounds) < 0.005


def test_a_generated_identity_asks_for_nothing() -> None:
    """Every VirtualMachine gets a uuid; a driver whose guests cannot see theirs must not be refused for that."""
    blind = Fake("blind", ("box",), {}, firmware__uuid=no("guests cannot see it"))
    context = AdmissionContext({}, DriverRegistry([blind]))
    done = admit("CREATE", VMS, machine(), None, context)
    assert done.problems == []
    made = done.obj["spec"]["template"]["spec"]["domain"]["firmware"]["uuid"]
    assert uuid.UUID(made).version == 8
    given = machine(put("domain.firmware.uuid", str(uuid.uuid4())))
    assert [p.feature for p in admit("CREATE", VMS, given, None, context).problems] == ["firmware.uuid"]


@pytest.mark.parametrize("strategy", ["None", "LiveMigrateIfPossible", "External", "LiveMigrate"])
def test_every_eviction_strategy_is_taken(strategy: str, context: AdmissionContext) -> None:
    done = admit("CREATE", VMIS, instance(put("evictionStrategy", strategy)), None, context)
    assert not done.problems
    assert not done.warnings


def test_a_pointer_device_that_is_asked_for_is_a_tablet_unless_one_is_named(context: AdmissionContext) -> None:
    def inputs(**devices: Any) -> Any:
        spec = {"domain": {"memory": {"guest": "64Mi"}, "devices": {"autoattachInputDevice": True, **devices}}}
        defaults.instance_spec(spec, {})
        return spec["domain"]["devices"].get("inputs")

    assert inputs() == [{"name": "default-0", "type": "tablet", "bus": "usb"}]
    own = [{"name": "mine", "type": "tablet", "bus": "virtio"}]
    assert inputs(inputs=own) == own
    assert inputs(autoattachInputDevice=False) is None
