"""Hypervisors by namespace: what machines there are given, and how it is told."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api import Obj
from polyvisor.api.resources import KUBEVIRTS, NAMESPACES, REPLICA_SETS, VMIS, VMS, Resource
from polyvisor.drivers import DriverRegistry
from tests.admission.conftest import ALPHA, BETA, GAMMA, Change, instance, machine, put
from tests.admission.test_replica_sets import replica_set

LABELS = {"default": {"tier": "small"}, "other": {"tier": "large"}, "bare": {}}
DEFAULTS = [
    {"namespaceSelector": {"matchLabels": {"tier": "small"}}, "hypervisor": {"driver": "beta"}},
    {
        "namespaceSelector": {"matchExpressions": [{"key": "tier", "operator": "Exists"}]},
        "hypervisor": {"anyOf": ["gamma", "alpha"]},
    },
]
WHERE = "spec.configuration.hypervisorDefaults"


def lookup(resource: Resource, namespace: str, name: str) -> Obj | None:
    assert (resource, namespace) == (NAMESPACES, "")
    return {"metadata": {"name": name, "labels": LABELS[name]}} if name in LABELS else None


@pytest.fixture
def context() -> AdmissionContext:
    return AdmissionContext({"hypervisorDefaults": DEFAULTS}, DriverRegistry([ALPHA, BETA, GAMMA]), lookup)


def stored(context: AdmissionContext, namespace: str, change: Change | None = None) -> Any:
    found = admit("CREATE", VMIS, instance(change, namespace=namespace), None, context)
    assert found.problems == []
    return found.obj["spec"].get("hypervisor")


def no_network(spec: Obj) -> None:
    del spec["networks"], spec["domain"]["devices"]["interfaces"]


def test_an_instance_is_stored_with_the_first_default_that_matches(context: AdmissionContext) -> None:
    assert stored(context, "default") == {"driver": "beta"}
    assert stored(context, "other", no_network) == {"anyOf": ["gamma", "alpha"]}
    assert stored(context, "bare") is None
    assert stored(context, "default", put("hypervisor", {"driver": "alpha"})) == {"driver": "alpha"}


def test_it_is_told_in_a_warning(context: AdmissionContext) -> None:
    told = [f"spec.hypervisor: beta, the default of namespace default ({WHERE}[0])"]
    assert admit("CREATE", VMIS, instance(), None, context).warnings == told
    own = instance(put("hypervisor", {"driver": "beta"}))
    assert admit("CREATE", VMIS, own, None, context).warnings == []


def test_a_machine_is_judged_with_it_and_stored_without(context: AdmissionContext) -> None:
    vm = machine()
    found = admit("CREATE", VMS, vm, None, context)
    assert found.problems == []
    assert "hypervisor" not in found.obj["spec"]["template"]["spec"]
    assert found.warnings == [f"spec.template.spec.hypervisor: beta, the default of namespace default ({WHERE}[0])"]


@pytest.mark.parametrize(
    ("resource", "make", "path"),
    [(VMIS, instance, "spec"), (VMS, machine, "spec.template.spec"), (REPLICA_SETS, replica_set, "spec.template.spec")],
)
def test_a_refusal_names_the_default(context: AdmissionContext, resource: Resource, make: Any, path: str) -> None:
    obj = make(put("domain.devices.disks.0.disk.bus", "scsi"))
    (problem,) = admit("CREATE", resource, obj, None, context).problems
    assert problem.field == f"{path}.domain.devices.disks[0].disk.bus"
    assert "there is no SCSI" in problem.message
    assert problem.message.endswith(
        f"(the hypervisor is the default of namespace default: {WHERE}[0] of the KubeVirt object)"
    )
    own = make(put("domain.devices.disks.0.disk.bus", "scsi"))
    spec = own["spec"] if path == "spec" else own["spec"]["template"]["spec"]
    spec["hypervisor"] = {"driver": "beta"}
    (problem,) = admit("CREATE", resource, own, None, context).problems
    assert "default of namespace" not in problem.message


def test_without_defaults_no_namespace_is_read(context: AdmissionContext) -> None:
    def nobody(resource: Resource, namespace: str, name: str) -> Obj | None:
        raise AssertionError("nothing is asked")

    plain = AdmissionContext({}, context.drivers, nobody)
    assert admit("CREATE", VMIS, instance(), None, plain).problems == []


def kubevirt(*defaults: Obj) -> Obj:
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "KubeVirt",
        "metadata": {"name": "kubevirt", "namespace": "kubevirt"},
        "spec": {"configuration": {"hypervisorDefaults": list(defaults)}},
    }


@pytest.mark.parametrize(
    ("entry", "field", "said"),
    [
        ({"namespaceSelector": {}, "hypervisor": {"driver": "betta"}}, "[0].hypervisor.driver", "did you mean beta?"),
        ({"namespaceSelector": {}, "hypervisor": {}}, "[0].hypervisor", "driver or anyOf"),
        ({"namespaceSelector": {}}, "[0].hypervisor", "required"),
        ({"hypervisor": {"driver": "beta"}}, "[0].namespaceSelector", "required"),
        (
            {"namespaceSelector": {"matchLabels": {"a b": "c"}}, "hypervisor": {"driver": "beta"}},
            "[0].namespaceSelector.matchLabels[a b]",
            "not a valid key",
        ),
        ({"namespaceSelector": {}, "hypervisor": {"anyOf": ["beta"]}, "driver": "x"}, "[0].driver", "unknown field"),
    ],
)
def test_a_wrong_default_is_refused(context: AdmissionContext, entry: Obj, field: str, said: str) -> None:
    found = admit("CREATE", KUBEVIRTS, kubevirt(entry), None, context).problems
    assert [problem.field for problem in found] == [WHERE + field]
    assert said in found[0].message


def test_a_default_that_never_holds_is_warned_of(context: AdmissionContext) -> None:
    everywhere: Obj = {"namespaceSelector": {}, "hypervisor": {"driver": "alpha"}}
    found = admit("CREATE", KUBEVIRTS, kubevirt(everywhere, DEFAULTS[0]), None, context)
    assert found.problems == []
    assert found.warnings == [f"{WHERE}[1]: never holds, since {WHERE}[0] before it is for all namespaces"]
