from __future__ import annotations

from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api import Obj
from polyvisor.api.resources import POOLS
from tests.admission.conftest import Change, machine, put


def pool(change: Change | None = None, **spec: Any) -> Obj:
    obj: Obj = {
        "apiVersion": "pool.kubevirt.io/v1beta1",
        "kind": "VirtualMachinePool",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "a"}},
            "virtualMachineTemplate": {
                "metadata": {"labels": {"app": "a"}},
                "spec": {"runStrategy": "Always", "template": machine(change)["spec"]["template"]},
            },
        }
        | spec,
    }
    return obj


def template(**spec: Any) -> Obj:
    found = pool()["spec"]["virtualMachineTemplate"]
    found["spec"] |= spec
    return {"virtualMachineTemplate": found}


SPEC = "spec.virtualMachineTemplate.spec"


def test_a_right_one_is_stored_as_it_was_written(context: AdmissionContext) -> None:
    obj = pool(maxUnavailable="50%", autohealing={"minFailingToStartDuration": "1m"}, updateStrategy={"proactive": {}})
    found = admit("CREATE", POOLS, obj, None, context)
    assert found.problems == []
    assert found.obj == obj


@pytest.mark.parametrize(
    ("obj", "field", "said"),
    [
        (pool(replicas=-1), "spec.replicas", "found -1; 0 or more are accepted"),
        (pool(selector={"matchLabels": {"app": "b"}}), "spec.selector", "whose labels are: app=a"),
        (pool(selector=None), "spec.selector", "required"),
        (pool(virtualMachineTemplate=None), "spec.virtualMachineTemplate", "required"),
        (pool(virtualMachineTemplate={"metadata": {"labels": {"app": "a"}}}), SPEC, "required"),
        (pool(maxUnavailable="0%"), "spec.maxUnavailable", "found '0%'; a number of at least 1"),
        (pool(maxUnavailable="1.5%"), "spec.maxUnavailable", "a percentage from 1% to 100%"),
        (pool(maxUnavailable="two"), "spec.maxUnavailable", "found 'two'"),
        (pool(maxUnavailable=0), "spec.maxUnavailable", "found 0"),
        (pool(updateStrategy={"proactive": {}, "unmanaged": {}}), "spec.updateStrategy", "only one strategy"),
        (pool(scaleInStrategy={"proactive": {}, "opportunistic": {}}), "spec.scaleInStrategy", "only one strategy"),
        (
            pool(scaleInStrategy={"proactive": {"selectionPolicy": {"sortPolicy": "Newst"}}}),
            "spec.scaleInStrategy.proactive.selectionPolicy.sortPolicy",
            "did you mean Newest?",
        ),
        (pool(autohealing={"startUpFailureThreshold": 0}), "spec.autohealing.startUpFailureThreshold", "1 or more"),
        (pool(autohealing={"minFailingToStartDuration": "soon"}), "spec.autohealing.minFailingToStartDuration", "30s"),
        (pool(pausd=True), "spec.pausd", "did you mean paused?"),
        (pool(**template(runStrategy="Sometimes")), f"{SPEC}.runStrategy", "accepted: Always"),
        (pool(**template(running=True)), f"{SPEC}.running", "exclude each other"),
        (pool(put("hypervisor", {"driver": "nosuch"})), f"{SPEC}.template.spec.hypervisor.driver", "nosuch"),
    ],
)
def test_a_wrong_one_is_refused_with_the_field(context: AdmissionContext, obj: Obj, field: str, said: str) -> None:
    problems = admit("CREATE", POOLS, obj, None, context).problems
    assert [problem.field for problem in problems] == [field]
    assert said in problems[0].message


def test_the_selector_of_a_pool_stays(context: AdmissionContext) -> None:
    new = pool(selector={"matchExpressions": [{"key": "app", "operator": "Exists"}]})
    (problem,) = admit("UPDATE", POOLS, new, pool(), context).problems
    assert (problem.field, problem.reason) == ("spec.selector", "FieldValueForbidden")


def test_memory_that_is_not_kept_is_said(context: AdmissionContext) -> None:
    obj = pool(scaleInStrategy={"proactive": {"statePreservation": "Online"}})
    found = admit("CREATE", POOLS, obj, None, context)
    assert found.problems == []
    assert [one for one in found.warnings if "memory is not kept" in one]


def test_what_goes_is_not_held_to_todays_rules(context: AdmissionContext) -> None:
    old = pool(replicas=-1)
    new = pool(replicas=-1)
    new["metadata"]["labels"] = {"a": "b"}
    assert admit("UPDATE", POOLS, new, old, context).problems == []
