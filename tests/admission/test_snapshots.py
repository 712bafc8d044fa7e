from __future__ import annotations

import json
from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api import Obj
from polyvisor.api.resources import RESTORES, SNAPSHOTS, VMS, Resource
from tests.admission.conftest import machine

VM = {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": "m"}


def snapshot(**spec: Any) -> Obj:
    return _object(SNAPSHOTS, {"source": VM, **spec})


def restore(**spec: Any) -> Obj:
    return _object(RESTORES, {"target": VM, "virtualMachineSnapshotName": "s", **spec})


def _object(resource: Resource, spec: Obj) -> Obj:
    metadata = {"name": "x", "namespace": "default"}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "spec": spec}


def patch(path: str) -> str:
    return json.dumps({"op": "add", "path": path, "value": 1})


@pytest.mark.parametrize(
    ("resource", "obj"),
    [
        (SNAPSHOTS, snapshot(failureDeadline="0", deletionPolicy="Retain")),
        (RESTORES, restore(patches=[patch("/spec/template/x"), patch("/metadata/labels/a")])),
        (RESTORES, restore(volumeRestoreOverrides=[{"volumeName": "a", "restoreName": "b"}])),
    ],
)
def test_a_right_one_is_stored_as_it_was_written(context: AdmissionContext, resource: Resource, obj: Obj) -> None:
    found = admit("CREATE", resource, obj, None, context)
    assert (found.problems, found.obj) == ([], obj)


@pytest.mark.parametrize(
    ("obj", "field", "said"),
    [
        (snapshot(source={"kind": "VirtualMachine", "name": "m"}), "spec.source.apiGroup", "missing apiGroup"),
        (snapshot(source={**VM, "apiGroup": "apps"}), "spec.source.apiGroup", "invalid apiGroup 'apps'"),
        (snapshot(source={**VM, "kind": "Pod"}), "spec.source.kind", "accepted: VirtualMachine of kubevirt.io"),
        (snapshot(failureDeadline="soon"), "spec.failureDeadline", "such as 30s"),
        (snapshot(deletionPolicy="Keep"), "spec.deletionPolicy", "accepted: Delete, Retain"),
        (restore(target={**VM, "kind": "Pod"}), "spec.target.kind", "invalid kind"),
        (restore(targetReadinessPolicy="Never"), "spec.targetReadinessPolicy", "StopTarget"),
        (restore(volumeRestorePolicy="Here"), "spec.volumeRestorePolicy", "InPlace"),
        (restore(patches=["nonsense"]), "spec.patches[0]", "one operation of a JSON patch is wanted"),
        (restore(patches=['["x"]']), "spec.patches[0]", "one operation of a JSON patch is wanted"),
        (restore(patches=[patch("/metadata/name")]), "spec.patches[0]", "valid only for elements under /spec/"),
        (restore(volumeRestoreOverrides=[{"volumeName": "a"}]), "spec.volumeRestoreOverrides[0]", "at least one of"),
        (restore(volumeRestoreOverrides=[{"restoreName": "a"}]), "spec.volumeRestoreOverrides[0].volumeName", "name"),
    ],
)
def test_a_wrong_one_is_refused_with_the_field(context: AdmissionContext, obj: Obj, field: str, said: str) -> None:
    resource = SNAPSHOTS if obj["kind"] == SNAPSHOTS.kind else RESTORES
    problems = admit("CREATE", resource, obj, None, context).problems
    assert [problem.field for problem in problems] == [field]
    assert said in problems[0].message


def test_its_spec_never_changes(context: AdmissionContext) -> None:
    (problem,) = admit("UPDATE", SNAPSHOTS, snapshot(deletionPolicy="Retain"), snapshot(), context).problems
    assert (problem.field, problem.reason) == ("spec", "FieldValueForbidden")


@pytest.mark.parametrize(
    ("status", "change", "said"),
    [
        ({"snapshotInProgress": "s"}, {"runStrategy": "Always"}, "running state until snapshot 's' completes"),
        ({"restoreInProgress": "r"}, {"runStrategy": "Always"}, "runStrategy until restore 'r' completes"),
        ({"snapshotInProgress": "s"}, {"volumes": []}, "disks or volumes until snapshot 's' completes"),
    ],
)
def test_a_machine_that_is_worked_on_is_left_as_it_is(
    context: AdmissionContext, status: Obj, change: Obj, said: str
) -> None:
    old = machine() | {"status": status}
    old["spec"]["runStrategy"] = "Halted"
    old["spec"]["template"]["spec"]["volumes"] = [{"name": "e", "emptyDisk": {"capacity": "1Mi"}}]
    new = json.loads(json.dumps(old))
    if "volumes" in change:
        new["spec"]["template"]["spec"]["volumes"] = change["volumes"]
    else:
        new["spec"] |= change
    (found,) = [one for one in admit("UPDATE", VMS, new, old, context).problems if one.field == "spec"]
    assert said in found.message
