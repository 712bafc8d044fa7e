from __future__ import annotations

from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api import Obj
from polyvisor.api.resources import CLONES

VM = {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": "m"}
N = {**VM, "name": "n"}


def clone(**spec: Any) -> Obj:
    metadata = {"name": "x", "namespace": "default"}
    whole = {"source": VM, "target": N, **spec}
    return {"apiVersion": CLONES.api_version, "kind": CLONES.kind, "metadata": metadata, "spec": whole}


def test_a_right_one_is_stored_as_it_was_written(context: AdmissionContext) -> None:
    obj = clone(labelFilters=["*", "!a/*"], newMacAddresses={"default": "02-00-00-00-00-01"}, newSMBiosSerial="s")
    found = admit("CREATE", CLONES, obj, None, context)
    assert (found.problems, found.obj) == ([], obj)


def test_a_target_without_a_name_gets_one(context: AdmissionContext) -> None:
    obj = clone()
    del obj["spec"]["target"]
    found = admit("CREATE", CLONES, obj, None, context)
    assert found.problems == []
    assert found.obj["spec"]["target"]["name"].startswith("clone-m-")


@pytest.mark.parametrize(
    ("obj", "field", "said"),
    [
        (clone(source={**VM, "kind": "Pod"}), "spec.source.kind", "VirtualMachineSnapshot of snapshot.kubevirt.io"),
        (clone(source={"kind": "VirtualMachine", "name": "m"}), "spec.source.apiGroup", "missing apiGroup"),
        (clone(target={**N, "kind": "Pod"}), "spec.target.kind", "invalid kind"),
        (clone(target=VM), "spec.target.name", "cannot be equal to source name"),
        (clone(labelFilters=["a!b"]), "spec.labelFilters[0]", "at the beginning"),
        (clone(annotationFilters=["a*b"]), "spec.annotationFilters[0]", "at the end"),
        (clone(template={"labelFilters": ["!"]}), "spec.template.labelFilters[0]", "found '!'"),
        (clone(newMacAddresses={"a": "nonsense"}), "spec.newMacAddresses.a", "malformed MAC address (nonsense)"),
        (clone(patches=["{"]), "spec.patches[0]", "one operation of a JSON patch"),
        (clone(volumeNamePolicy="Any"), "spec.volumeNamePolicy", "RandomizeNames"),
        (clone(labelFiltrs=[]), "spec.labelFiltrs", "did you mean labelFilters?"),
    ],
)
def test_a_wrong_one_is_refused_with_the_field(context: AdmissionContext, obj: Obj, field: str, said: str) -> None:
    problems = admit("CREATE", CLONES, obj, None, context).problems
    assert [problem.field for problem in problems] == [field]
    assert said in problems[0].message


def test_its_spec_never_changes(context: AdmissionContext) -> None:
    (problem,) = admit("UPDATE", CLONES, clone(newSMBiosSerial="s"), clone(), context).problems
    assert (problem.field, problem.reason) == ("spec", "FieldValueForbidden")
