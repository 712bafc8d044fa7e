"""Who may have a machine take over a domain that is on a host already, let go of one, or say that a guest is dead."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.admission.context import Access, Requester
from polyvisor.admission.instancetypes import expand
from polyvisor.admission.values import Findings
from polyvisor.api.names import NETWORKS_ANNOTATION
from polyvisor.api.resources import INSTANCETYPES, PREFERENCES, REPLICA_SETS, VMIS, VMS
from polyvisor.drivers import registry

Obj = dict[str, Any]
UUID = "11111111-2222-3333-4444-555555555555"
ADOPT, UNMANAGE, FENCED, POLICY = (
    f"hypervisor.kubevirt.io/{name}" for name in ("adopt", "unmanage", "fenced", "deletion-policy")
)
MAY_ADOPT = Access("adopt", "hypervisor.kubevirt.io", "hypervisorendpoints", "", "rack4")
MAY_FENCE = Access("fence", "hypervisor.kubevirt.io", "hypervisorendpoints", "", "rack4")


def machine(resource: Any, annotations: Obj, *, endpoint: str = "rack4", outer: Obj | None = None) -> Obj:
    inner: Obj = {
        "domain": {"memory": {"guest": "64Mi"}, "devices": {}},
        "hypervisor": {"endpoint": endpoint, "driver": "qemu"} if endpoint else {"driver": "qemu"},
    }
    template: Obj = {"metadata": {"labels": {"app": "x"}, "annotations": annotations}, "spec": inner}
    spec: Obj = {"runStrategy": "Halted", "template": template}
    if resource == REPLICA_SETS:
        spec = {"selector": {"matchLabels": {"app": "x"}}, "template": template}
    metadata: Obj = {"name": "m", "namespace": "mine", "annotations": outer or {}}
    if resource == VMIS:
        spec, metadata["annotations"] = inner, annotations
    return {"apiVersion": "kubevirt.io/v1", "kind": resource.kind, "metadata": metadata, "spec": spec}


def refused(resource: Any, obj: Obj, *rights: Access, old: Obj | None = None, ours: bool = False) -> list[str]:
    requester = Requester("alice", ours=ours, may=lambda access: access in rights)
    context = AdmissionContext({"developerConfiguration": {"useEmulation": True}}, registry(), requester=requester)
    found = admit("CREATE" if old is None else "UPDATE", resource, obj, old, context)
    return [problem.field for problem in found.problems if "'alice' may not" in problem.message]


@pytest.mark.parametrize(
    ("resource", "path"),
    [(VMIS, "metadata"), (VMS, "spec.template.metadata"), (REPLICA_SETS, "spec.template.metadata")],
)
def test_a_domain_on_a_host_is_taken_over_by_who_may_adopt_there(resource: Any, path: str) -> None:
    obj, field = machine(resource, {ADOPT: UUID}), f"{path}.annotations[{ADOPT}]"
    assert refused(resource, machine(resource, {})) == []
    assert refused(resource, obj) == [field]
    assert refused(resource, obj, MAY_FENCE) == [field]
    assert refused(resource, obj, MAY_ADOPT) == []
    assert refused(resource, obj, ours=True) == []
    assert refused(resource, obj, old=machine(resource, {})) == [field]
    assert refused(resource, obj, old=obj) == []  # whoever may change the machine goes on with what it has


def test_another_domain_or_the_same_uuid_on_another_host_is_asked_for_anew() -> None:
    old = machine(VMS, {ADOPT: UUID})
    field = [f"spec.template.metadata.annotations[{ADOPT}]"]
    assert refused(VMS, machine(VMS, {ADOPT: UUID.replace("1", "9")}), old=old) == field
    assert refused(VMS, machine(VMS, {ADOPT: UUID}, endpoint="rack5"), MAY_ADOPT, old=old) == field
    assert refused(VMS, machine(VMS, {ADOPT: UUID}, endpoint=""), MAY_ADOPT, old=old) == field


@pytest.mark.parametrize(("name", "right"), [(UNMANAGE, MAY_ADOPT), (FENCED, MAY_FENCE)])
def test_a_domain_is_let_go_of_or_fenced_by_who_has_that_right(name: str, right: Access) -> None:
    obj = machine(VMIS, {name: "true"})
    assert refused(VMIS, obj, old=machine(VMIS, {})) == [f"metadata.annotations[{name}]"]
    assert refused(VMIS, obj, right, old=machine(VMIS, {})) == []
    assert refused(VMS, machine(VMS, {name: "true"})) == [f"spec.template.metadata.annotations[{name}]"]


def test_a_template_that_was_changed_is_said_to_be_as_it_was_by_who_may_adopt() -> None:
    """A domain is begun with all that it has on its host, however little its template asks of the quota."""
    name = "hypervisor.kubevirt.io/adopted-spec"
    old = machine(VMS, {ADOPT: UUID, name: "a" * 32})
    assert refused(VMS, machine(VMS, {ADOPT: UUID, name: "a" * 32}), old=old) == []
    forged = machine(VMS, {ADOPT: UUID, name: "b" * 32})
    assert refused(VMS, forged, old=old) == [f"spec.template.metadata.annotations[{name}]"]
    assert refused(VMS, forged, MAY_ADOPT, old=old) == []


def test_a_domain_outlives_its_machine_by_the_word_of_who_may_adopt() -> None:
    obj = machine(VMS, {}, outer={POLICY: "Retain"})
    assert refused(VMS, obj) == [f"metadata.annotations[{POLICY}]"]
    assert refused(VMS, obj, MAY_ADOPT) == []


@pytest.mark.parametrize("name", [ADOPT, FENCED, NETWORKS_ANNOTATION, "v1.multus-cni.io/default-network"])
@pytest.mark.parametrize("resource", [INSTANCETYPES, PREFERENCES])
def test_no_instance_type_gives_what_takes_rights(resource: Any, name: str) -> None:
    """Its writer may be another than the machine's, and a ControllerRevision of one was never judged."""
    size = {"cpu": {"guest": 1}, "memory": {"guest": "64Mi"}} if resource == INSTANCETYPES else {}
    spec = {**size, "annotations": {name: UUID, "note": "kept"}}
    kind = {"apiVersion": resource.api_version, "kind": resource.kind}
    found = admit(
        "CREATE", resource, {**kind, "metadata": {"name": "s", "namespace": "mine"}, "spec": spec}, None, ALONE
    )
    assert [one.field for one in found.problems] == [f"spec.annotations[{name}]"]
    stored = {**kind, "metadata": {"name": "s", "namespace": "mine"}, "spec": spec}
    vm = machine(VMS, {}, endpoint="")
    vm["spec"]["template"]["spec"]["domain"].pop("memory")
    field = "instancetype" if resource == INSTANCETYPES else "preference"
    vm["spec"][field] = {"name": "s", "kind": resource.kind}
    problems = Findings()
    expansion = expand(vm, None, lambda *_: stored, problems)
    assert expansion is not None, problems.problems
    assert expansion.annotations == {"note": "kept"}


ALONE = AdmissionContext({"developerConfiguration": {"useEmulation": True}}, registry())
