"""What KubeVirt admits and clients rely on is admitted here too, and told where it has no effect yet."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api import Obj, VirtualMachineInstanceSpec
from polyvisor.api.resources import INSTANCETYPES, PVCS, VMIS, VMS
from polyvisor.machine import Memory
from tests.admission.conftest import instance, machine, put
from tests.admission.shelf import Shelf


def problems(resource: Any, obj: Obj, context: AdmissionContext) -> list[tuple[str, str]]:
    return [(one.field, one.message) for one in admit("CREATE", resource, obj, None, context).problems]


def test_a_machine_without_memory_is_taken_with_a_warning_and_its_instance_is_not(context: AdmissionContext) -> None:
    def change(spec: Obj) -> None:
        spec["domain"].pop("memory", None)
        spec["domain"].pop("resources", None)

    found = admit("CREATE", VMS, machine(change), None, context)
    assert found.problems == []
    assert any("spec.template.spec.domain.memory.guest" in warning for warning in found.warnings)
    assert [field for field, _ in problems(VMIS, instance(change), context)] == ["spec.domain.memory.guest"]


@pytest.mark.parametrize("size", ["2.1Gi", "0.3Gi", "1.0001G"])
def test_a_size_of_memory_may_be_a_fraction_of_its_unit(context: AdmissionContext, size: str) -> None:
    obj = instance(put("domain.memory.guest", size))
    assert problems(VMIS, obj, context) == []
    bytes_ = Memory.of(VirtualMachineInstanceSpec.model_validate(obj["spec"]).domain).guest
    assert bytes_ == -(-int(float(size.rstrip("Gi")) * 10**4) * (1 << 30 if size.endswith("i") else 10**9) // 10**4)


@pytest.mark.parametrize(("size", "said"), [("512m", "a fraction of a byte"), ("1500m", "a fraction of a byte")])
def test_thousandths_of_a_byte_are_still_a_mistake(context: AdmissionContext, size: str, said: str) -> None:
    ((field, message),) = problems(VMIS, instance(put("domain.memory.guest", size)), context)
    assert field == "spec.domain.memory.guest"
    assert said in message


def test_pages_of_an_odd_size_are_left_to_the_nodes(context: AdmissionContext) -> None:
    memory = {"guest": "66Mi", "hugepages": {"pageSize": "3Mi"}}
    assert problems(VMIS, instance(put("domain.memory", memory)), context) == []


@pytest.mark.parametrize(("name", "good"), [("nonExistingPVC", True), ("../x", False), ("a/b", False), ("a b", False)])
def test_a_claim_that_cannot_exist_is_waited_for(context: AdmissionContext, name: str, good: bool) -> None:
    def change(spec: Obj) -> None:
        spec["volumes"][0] = {"name": "root", "persistentVolumeClaim": {"claimName": name}}

    assert (problems(VMIS, instance(change), context) == []) is good


@pytest.mark.parametrize(("length", "good"), [(63, True), (64, True), (200, True), (253, True), (254, False)])
def test_a_name_may_be_as_long_as_kubernetes_names(context: AdmissionContext, length: int, good: bool) -> None:
    for resource, obj in ((VMIS, instance()), (VMS, machine())):
        obj["metadata"]["name"] = "x" * length
        assert (problems(resource, obj, context) == []) is good


@pytest.mark.parametrize("cidr", ["10.10.010.0/24", "010.000.002.000/24"])
def test_zeros_before_the_numbers_of_a_network_are_read_as_decimal(context: AdmissionContext, cidr: str) -> None:
    def change(spec: Obj) -> None:
        spec["networks"] = [{"name": "default", "pod": {"vmNetworkCIDR": cidr}}]
        spec["domain"]["devices"]["interfaces"] = [{"name": "default", "masquerade": {}}]

    assert problems(VMIS, instance(change), context) == []


def test_zeros_of_an_instance_type_are_what_is_left_open(context: AdmissionContext, shelf: Shelf) -> None:
    kind = {"apiVersion": "instancetype.kubevirt.io/v1beta1", "kind": "VirtualMachineInstancetype"}
    obj = {**kind, "metadata": {"name": "zero", "namespace": "default"}}
    obj["spec"] = {"cpu": {"guest": 0, "maxSockets": 0}, "memory": {"guest": "0", "overcommitPercent": 0}}
    assert problems(INSTANCETYPES, obj, context) == []
    obj["spec"] = {"cpu": {"guest": -1}, "memory": {"guest": "1"}}
    assert [field for field, _ in problems(INSTANCETYPES, obj, context)] == ["spec.cpu.guest", "spec.memory.guest"]


@pytest.mark.parametrize(("policy", "kept"), [("Ignore", False), ("Reject", True), (None, True)])
def test_a_size_for_when_nothing_can_be_inferred_goes_when_it_was(
    context: AdmissionContext, shelf: Shelf, policy: str | None, kept: bool
) -> None:
    def change(template: Obj) -> None:
        template["volumes"][0] = {"name": "root", "persistentVolumeClaim": {"claimName": "disk"}}
        template["domain"]["memory"] = {"guest": "512Mi"}

    labels = {"instancetype.kubevirt.io/default-instancetype": "small"}
    shelf.put(PVCS, "disk", {}, metadata={"labels": labels})
    matcher = {"inferFromVolume": "root", **({"inferFromVolumeFailurePolicy": policy} if policy else {})}
    found = admit("CREATE", VMS, machine(change, instancetype=matcher), None, context)
    memory = found.obj["spec"]["template"]["spec"]["domain"].get("memory") or {}
    assert ("guest" in memory) is kept
