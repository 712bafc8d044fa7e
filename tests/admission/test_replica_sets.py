from __future__ import annotations

from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api import Obj
from polyvisor.api.resources import REPLICA_SETS
from tests.admission.conftest import Change, machine, put


def replica_set(change: Change | None = None, **spec: Any) -> Obj:
    obj: Obj = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstanceReplicaSet",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "a"}},
            "template": machine(change)["spec"]["template"],
        }
        | spec,
    }
    return obj


def test_a_right_one_is_stored_as_it_was_written(context: AdmissionContext) -> None:
    obj = replica_set()
    found = admit("CREATE", REPLICA_SETS, obj, None, context)
    assert found.problems == []
    assert found.obj == obj


@pytest.mark.parametrize(
    ("obj", "field", "said"),
    [
        (replica_set(replicas=-1), "spec.replicas", "found -1; 0 or more are accepted"),
        (replica_set(selector={"matchLabels": {"app": "b"}}), "spec.selector", "whose labels are: app=a"),
        (replica_set(selector={}), "spec.selector", "would take in every instance"),
        (replica_set(selector=None), "spec.selector", "required"),
        (replica_set(selector={"matchLabels": {"a b": "c"}}), "spec.selector.matchLabels[a b]", "not a valid key"),
        (replica_set(template=None), "spec.template", "required"),
        (replica_set(template={"metadata": {"labels": {"app": "a"}}}), "spec.template.spec", "required"),
        (replica_set(pausd=True), "spec.pausd", "did you mean paused?"),
        (
            replica_set(put("domain.devices.disks.0.disk.bus", "scsi"), template_hypervisor=None),
            "spec.template_hypervisor",
            "unknown field",
        ),
        (replica_set(put("hypervisor", {"driver": "nosuch"})), "spec.template.spec.hypervisor.driver", "nosuch"),
    ],
)
def test_a_wrong_one_is_refused_with_the_field(context: AdmissionContext, obj: Obj, field: str, said: str) -> None:
    problems = admit("CREATE", REPLICA_SETS, obj, None, context).problems
    assert [problem.field for problem in problems] == [field]
    assert said in problems[0].message


def test_a_feature_that_the_driver_lacks_is_refused_in_the_template(context: AdmissionContext) -> None:
    def change(spec: Obj) -> None:
        spec["hypervisor"] = {"driver": "beta"}
        spec["domain"]["devices"]["disks"][0]["disk"]["bus"] = "scsi"

    (problem,) = admit("CREATE", REPLICA_SETS, replica_set(change), None, context).problems
    assert problem.field == "spec.template.spec.domain.devices.disks[0].disk.bus"
    assert problem.feature == "disk.bus.scsi"


def test_an_update_that_leaves_the_spec_alone_is_not_judged_again(context: AdmissionContext) -> None:
    old = replica_set(put("hypervisor", {"driver": "gone"}))
    assert admit("UPDATE", REPLICA_SETS, {**old, "status": {"replicas": 1}}, old, context).problems == []
    new = {**old, "spec": {**old["spec"], "replicas": 5}}
    assert admit("UPDATE", REPLICA_SETS, new, old, context).problems


@pytest.mark.parametrize(
    ("selector", "field"),
    [
        ({"matchLabels": [{"app": "a"}]}, "spec.selector.matchLabels"),
        ({"matchLabels": "app=a"}, "spec.selector.matchLabels"),
        ({"matchExpressions": {"key": "app"}}, "spec.selector.matchExpressions"),
        ({"matchExpressions": ["app"]}, "spec.selector.matchExpressions[0]"),
    ],
)
def test_a_selector_of_the_wrong_shape_is_a_problem(context: AdmissionContext, selector: Any, field: str) -> None:
    found = admit("CREATE", REPLICA_SETS, replica_set(selector=selector), None, context)
    assert field in {problem.field for problem in found.problems}
