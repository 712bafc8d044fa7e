from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonpatch
import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.admission.context import Requester
from polyvisor.api.resources import INSTANCETYPES, REPLICA_SETS, VMIS, VMS, Resource
from polyvisor.drivers import registry
from polyvisor.kube import ApiError
from polyvisor.server.webhooks import BadReview, read_review, review
from polyvisor.standalone.admission import admitter
from polyvisor.standalone.apiserver import Store
from tests.cluster import running

Obj = dict[str, Any]
CONTEXT = AdmissionContext({"developerConfiguration": {"useEmulation": True}}, registry())


def vmi(**spec: Any) -> Obj:
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": "demo", "namespace": "default"},
        "spec": {"domain": {"devices": {}, "memory": {"guest": "64Mi"}}} | spec,
    }


def vm(**spec: Any) -> Obj:
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "demo", "namespace": "default"},
        "spec": {"runStrategy": "Halted", "template": {"spec": vmi()["spec"]}} | spec,
    }


def replica_set(labels: Obj, **spec: Any) -> Obj:
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstanceReplicaSet",
        "metadata": {"name": "demo", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": vmi()["spec"]},
        }
        | spec,
    }


def instancetype(**spec: Any) -> Obj:
    return {
        "apiVersion": "instancetype.kubevirt.io/v1beta1",
        "kind": "VirtualMachineInstancetype",
        "metadata": {"name": "demo", "namespace": "default"},
        "spec": {"cpu": {"guest": 1}, "memory": {"guest": "64Mi"}} | spec,
    }


def request(resource: Resource, obj: Obj | None, operation: str = "CREATE", old: Obj | None = None) -> Obj:
    return {
        "uid": "u1",
        "operation": operation,
        "resource": {"group": resource.group, "version": resource.version, "resource": resource.plural},
        "name": "demo",
        "namespace": "default",
        "object": obj,
        "oldObject": old,
    }


INVALID: list[tuple[Resource, Obj]] = [
    (VMIS, vmi(domian={})),
    (VMIS, vmi(domain={"devices": {"disks": [{"name": "a"}, {"name": "a"}]}, "memory": {"guest": "lots"}})),
    (VMIS, vmi(hypervisor={"driver": "nosuch"})),
    (VMIS, vmi(hypervisor={"driver": "lxc"}, domain={"devices": {"tpm": {}}, "memory": {"guest": "64Mi"}})),
    (VMIS, vmi(terminationGracePeriodSeconds="soon", volumes=[{"name": "v"}])),
    (REPLICA_SETS, replica_set({"app": "other"}, replicas=-1)),
    (INSTANCETYPES, instancetype(cpu={"guest": 0}, memry={})),
    (VMS, vm(instancetype={"name": "nosuch"})),
    (VMS, vm(preference={"name": "p", "kind": "Taste"}, instancetype={"inferFromVolume": "v"})),
    (VMS, vm(runStrategy="Sometimes")),
    (VMS, vm(running=True, template={"spec": vmi(nodeSelektor={})["spec"]})),
    (VMS, {**vm(), "spec": {}}),
]


@pytest.mark.parametrize(("resource", "obj"), INVALID)
async def test_a_refusal_has_the_causes_of_standalone_word_for_word(
    resource: Resource, obj: Obj, tmp_path: Path
) -> None:
    store = Store(tmp_path / "config.sqlite")
    async with store.opened(), running(tmp_path, admitter(store, registry())) as client:
        with pytest.raises(ApiError) as refused:
            await client.create(resource, obj)
    standalone = refused.value.status
    for mutates in (True, False):
        answer = review(request(resource, obj), AdmissionContext({}, registry()), mutates=mutates)
        assert not answer["allowed"]
        assert answer["status"]["details"] == standalone["details"]
        assert answer["status"]["message"] == standalone["message"]
        assert answer["status"]["code"] == 422


def test_defaults_come_as_a_patch_of_the_object() -> None:
    obj = vmi()
    answer = review(request(VMIS, obj), CONTEXT, mutates=True)
    assert answer["allowed"]
    assert answer["patchType"] == "JSONPatch"
    patched = jsonpatch.apply_patch(obj, json.loads(base64.b64decode(answer["patch"])))
    assert patched == admit("CREATE", VMIS, obj, None, CONTEXT).obj
    again = review(request(VMIS, patched), CONTEXT, mutates=True)
    assert "patch" not in again, "defaults are complete after the first time"


def test_the_validating_webhook_changes_nothing() -> None:
    assert "patch" not in review(request(VMIS, vmi()), CONTEXT, mutates=False)


def test_an_instance_cannot_be_changed() -> None:
    old = vmi()
    new = vmi(evictionStrategy="None")
    answer = review(request(VMIS, new, "UPDATE", old), CONTEXT, mutates=True)
    assert answer["status"]["details"]["causes"][0]["field"] == "spec"


def test_the_time_that_it_gets_to_shut_down_can() -> None:
    old = admit("CREATE", VMIS, vmi(), None, CONTEXT).obj
    for seconds, allowed in ((0, True), (300, True), (-1, False), ("soon", False)):
        new = {**old, "spec": {**old["spec"], "terminationGracePeriodSeconds": seconds}}
        answer = review(request(VMIS, new, "UPDATE", old), CONTEXT, mutates=True)
        assert answer["allowed"] is allowed, seconds


def test_a_deletion_is_let_through() -> None:
    answer = review(request(VMS, None, "DELETE", vm()), CONTEXT, mutates=True)
    assert answer == {"uid": "u1", "allowed": True}


def test_what_is_no_review_is_refused() -> None:
    good = {"apiVersion": "admission.k8s.io/v1", "request": request(VMS, vm())}
    assert read_review(json.dumps(good).encode())["uid"] == "u1"
    for bad in ("", "[]", "{}", json.dumps(good | {"apiVersion": "admission.k8s.io/v1beta1"})):
        with pytest.raises(BadReview):
            read_review(bad.encode())
    foreign = request(VMS, vm()) | {"resource": {"group": "", "version": "v1", "resource": "pods"}}
    with pytest.raises(BadReview, match="pods is not reviewed"):
        review(foreign, CONTEXT, mutates=True)
    with pytest.raises(BadReview, match="CONNECT"):
        review(request(VMS, vm(), "CONNECT"), CONTEXT, mutates=True)


@pytest.mark.parametrize(("ours", "kept"), [(False, "Running"), (True, "Failed")])
def test_the_status_that_a_user_writes_is_put_back(ours: bool, kept: str) -> None:
    context = replace(CONTEXT, requester=Requester("alice", ours=ours))
    old = jsonpatch.apply_patch(vmi(), patch_of(review(request(VMIS, vmi()), context, mutates=True)))
    old["status"] = {"phase": "Running"}
    new = {**old, "metadata": {**old["metadata"], "labels": {"a": "b"}}, "status": {"phase": "Failed"}}
    answer = review(request(VMIS, new, "UPDATE", old), context, mutates=True)
    stored = jsonpatch.apply_patch(new, patch_of(answer)) if "patch" in answer else new
    assert stored["status"] == {"phase": kept}
    assert stored["metadata"]["labels"] == {"a": "b"}


def test_a_new_machine_has_no_status_of_its_users() -> None:
    context = replace(CONTEXT, requester=Requester("alice", ours=False))
    new = {**vmi(), "status": {"activePods": {"forged": "n1"}}}
    stored = jsonpatch.apply_patch(new, patch_of(review(request(VMIS, new), context, mutates=True)))
    assert stored["status"] == {"phase": "Pending"}


def patch_of(answer: Obj) -> Any:
    return json.loads(base64.b64decode(answer["patch"]))
