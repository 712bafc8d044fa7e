from __future__ import annotations

from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api.resources import VMIS, VMS
from polyvisor.drivers import registry

SPEC: dict[str, Any] = {"domain": {"memory": {"guest": "64Mi"}, "devices": {}}}
CONTEXT = AdmissionContext({}, registry())


@pytest.mark.parametrize("name", ["hooks.kubevirt.io/hookSidecars", "kubevirt.io/ignitiondata"])
def test_annotations_that_nothing_reads_are_refused(name: str) -> None:
    metadata = {"name": "m", "namespace": "default"}
    marked = {**metadata, "annotations": {name: "x", "example.org/mine": "y"}}
    head = {"apiVersion": "kubevirt.io/v1"}
    vmi = {**head, "kind": "VirtualMachineInstance", "metadata": marked, "spec": SPEC}
    fields = [problem.field for problem in admit("CREATE", VMIS, vmi, None, CONTEXT).problems]
    assert fields == [f"metadata.annotations[{name}]"]

    template = {"metadata": {"annotations": marked["annotations"]}, "spec": SPEC}
    spec = {"runStrategy": "Halted", "template": template}
    vm = {**head, "kind": "VirtualMachine", "metadata": metadata, "spec": spec}
    fields = [problem.field for problem in admit("CREATE", VMS, vm, None, CONTEXT).problems]
    assert fields == [f"spec.template.metadata.annotations[{name}]"]


@pytest.mark.parametrize(
    ("policy", "endpoint", "said"),
    [
        ("Retain", "rack4", ""),
        ("Retain", "", "only a machine on an endpoint"),
        ("Keep", "rack4", "found 'Keep'; accepted: Retain"),
    ],
)
def test_a_deletion_policy_that_has_no_effect_is_refused(policy: str, endpoint: str, said: str) -> None:
    choice = {"hypervisor": {"driver": "qemu", "endpoint": endpoint}} if endpoint else {}
    annotations = {"hypervisor.kubevirt.io/deletion-policy": policy}
    vm = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "m", "namespace": "default", "annotations": annotations},
        "spec": {"runStrategy": "Halted", "template": {"spec": {**SPEC, **choice}}},
    }
    problems = admit("CREATE", VMS, vm, None, CONTEXT).problems
    assert [problem.field for problem in problems] == [f"metadata.annotations[{name}]" for name in annotations if said]
    assert all(said in problem.message for problem in problems)
    old = {**vm, "metadata": {"name": "m", "namespace": "default"}}
    assert bool(admit("UPDATE", VMS, vm, old, CONTEXT).problems) is bool(said)
