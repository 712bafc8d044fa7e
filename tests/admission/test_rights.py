"""References that give a machine more than its writer has."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.admission.context import Access, Requester
from polyvisor.api.resources import REPLICA_SETS, VMIS, VMS
from polyvisor.drivers import registry

Obj = dict[str, Any]
ACCOUNT: Obj = {"name": "token", "serviceAccount": {"serviceAccountName": "powerful"}}
NETWORK: Obj = {"name": "other", "multus": {"networkName": "secret/net"}}
CARD: Obj = {"name": "other", "bridge": {}}
TOKEN = Access("create", "", "serviceaccounts", "mine", "powerful", "token")
PODS = Access("create", "", "pods", "mine")
ATTACHMENT = Access("get", "k8s.cni.cncf.io", "network-attachment-definitions", "secret", "net")
REVISION = Access("get", "apps", "controllerrevisions", "mine", "r1")


def spec(volumes: Any = (), networks: Any = ()) -> Obj:
    disks = [{"name": volume["name"], "disk": {}} for volume in volumes]
    devices = {"disks": disks, "interfaces": [CARD for _ in networks]}
    domain = {"memory": {"guest": "64Mi"}, "devices": devices}
    return {"domain": domain, "volumes": list(volumes), "networks": list(networks), "hypervisor": {"driver": "qemu"}}


def machine(resource: Any, inner: Obj, **outer: Any) -> Obj:
    wrapped: Obj = inner
    if resource == VMS:
        wrapped = {"runStrategy": "Halted", "template": {"spec": inner}, **outer}
    elif resource == REPLICA_SETS:
        labels = {"app": "x"}
        wrapped = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": inner}}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": resource.kind,
        "metadata": {"name": "m", "namespace": "mine"},
        "spec": wrapped,
    }


def refused(resource: Any, obj: Obj, *rights: Access, old: Obj | None = None, ours: bool = False) -> list[str]:
    requester = Requester("alice", ours=ours, may=lambda access: access in rights)
    context = AdmissionContext({"developerConfiguration": {"useEmulation": True}}, registry(), requester=requester)
    found = admit("CREATE" if old is None else "UPDATE", resource, obj, old, context)
    return [problem.field for problem in found.problems if "'alice' may not" in problem.message]


@pytest.mark.parametrize(
    ("resource", "path"), [(VMIS, "spec"), (VMS, "spec.template.spec"), (REPLICA_SETS, "spec.template.spec")]
)
def test_a_service_account_is_named_by_who_could_use_it(resource: Any, path: str) -> None:
    obj = machine(resource, spec([ACCOUNT]))
    field = f"{path}.volumes[0].serviceAccount.serviceAccountName"
    assert refused(resource, obj) == [field]
    assert refused(resource, obj, PODS) == []
    assert refused(resource, obj, TOKEN) == []
    assert refused(resource, obj, ours=True) == []
    assert refused(resource, obj, old=machine(resource, spec())) == [field]


def test_a_machine_with_an_account_is_started_by_anybody_and_changed_by_who_may_use_the_account() -> None:
    context = AdmissionContext({"developerConfiguration": {"useEmulation": True}}, registry())
    old = admit("CREATE", VMS, machine(VMS, spec([ACCOUNT])), None, context).obj
    assert refused(VMS, {**old, "spec": {**old["spec"], "runStrategy": "Always"}}, old=old) == []
    assert refused(VMS, {**old, "metadata": {**old["metadata"], "labels": {"a": "b"}}}, old=old) == []
    changed = machine(VMS, {**spec([ACCOUNT]), "hostname": "another"})
    assert refused(VMS, changed, old=old) == ["spec.template.spec.volumes[0].serviceAccount.serviceAccountName"]
    assert refused(VMS, changed, PODS, old=old) == []


@pytest.mark.parametrize(("resource", "path"), [(VMIS, "spec"), (VMS, "spec.template.spec")])
def test_another_namespaces_network_is_joined_by_who_may_read_it(resource: Any, path: str) -> None:
    obj = machine(resource, spec(networks=[NETWORK]))
    field = f"{path}.networks[0].multus.networkName"
    assert refused(resource, obj) == [field]
    assert refused(resource, obj, ATTACHMENT) == []
    for name in ("net", "mine/net", "default/net"):
        assert refused(resource, machine(resource, spec(networks=[{**NETWORK, "multus": {"networkName": name}}]))) == []
    if resource == VMS:
        assert refused(resource, {**obj, "spec": {**obj["spec"], "runStrategy": "Always"}}, old=obj) == []


@pytest.mark.parametrize("kind", ["instancetype", "preference"])
def test_a_revision_is_named_by_who_may_read_it(kind: str) -> None:
    obj = machine(VMS, spec(), **{kind: {"name": "small", "revisionName": "r1"}})
    assert refused(VMS, obj) == [f"spec.{kind}.revisionName"]
    assert refused(VMS, obj, REVISION) == []


@pytest.mark.parametrize(("resource", "path"), [(VMIS, "metadata"), (VMS, "spec.template.metadata")])
def test_labels_of_the_components_are_theirs_to_set(resource: Any, path: str) -> None:
    """As in KubeVirt: they say where a machine is and whose Pod it has."""

    def labelled(**labels: str) -> Obj:
        obj = machine(resource, spec())
        inner = obj["spec"]["template"] if resource == VMS else obj
        inner["metadata"] = {**inner.get("metadata", {}), "labels": {f"kubevirt.io/{k}": v for k, v in labels.items()}}
        return obj

    def fields(obj: Obj, old: Obj | None = None, ours: bool = False) -> list[str]:
        context = AdmissionContext({}, registry(), requester=Requester("alice", ours=ours))
        return [one.field for one in admit("UPDATE" if old else "CREATE", resource, obj, old, context).problems]

    assert fields(labelled(nodeName="n2")) == [f"{path}.labels[kubevirt.io/nodeName]"]
    assert fields(labelled(nodeName="n2"), ours=True) == []
    assert fields(labelled(size="small")) == []
    assert fields(labelled(nodeName="n2"), labelled(nodeName="n1")) == [f"{path}.labels[kubevirt.io/nodeName]"]
    assert fields(labelled(), labelled(nodeName="n1")) == [f"{path}.labels[kubevirt.io/nodeName]"]
    assert fields(labelled(nodeName="n1", size="large"), labelled(nodeName="n1")) == []
