"""Drivers that isolate guests less: off in a cluster unless listed, and a right of their own where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.admission.configuration import effective
from polyvisor.admission.context import Access, Requester
from polyvisor.api import KubeVirtConfiguration, VirtualMachineInstanceSpec
from polyvisor.api.names import driver_label, virt_type_label
from polyvisor.api.resources import REPLICA_SETS, VMIS, VMS
from polyvisor.controllers.replica_set import instance_of
from polyvisor.drivers import registry
from polyvisor.drivers.base import Verdict
from polyvisor.drivers.features import BY_ID
from polyvisor.drivers.isolation import isolated
from polyvisor.drivers.verdict import answer
from polyvisor.placement import place
from polyvisor.placement.permission import ANNOTATION, permits

Obj = dict[str, Any]
KINDS = [(VMIS, "spec"), (VMS, "spec.template.spec"), (REPLICA_SETS, "spec.template.spec")]
BOTH: Obj = {"developerConfiguration": {"useEmulation": True}, "hypervisors": [{"name": "qemu"}, {"name": "lxc"}]}
USE = Access("use", "hypervisor.kubevirt.io", "hypervisors", "mine", "lxc")


def machine(resource: Any, annotations: Obj | None = None, **hypervisor: Any) -> Obj:
    spec: Obj = {"domain": {"memory": {"guest": "64Mi"}, "devices": {}}}
    spec |= {"volumes": [{"name": "root", "containerDisk": {"image": "a:1"}}]}
    spec["domain"]["devices"] = {"disks": [{"name": "root", "disk": {}}], "interfaces": []}
    if hypervisor:
        spec["hypervisor"] = hypervisor
    wrapped: Obj = spec
    if resource == VMS:
        wrapped = {
            "runStrategy": "Halted",
            "template": {"metadata": {"annotations": dict(annotations or {})}, "spec": spec},
        }
    elif resource == REPLICA_SETS:
        labels = {"app": "x"}
        template = {"metadata": {"labels": labels, "annotations": dict(annotations or {})}, "spec": spec}
        wrapped = {"selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": "m", "namespace": "mine", "annotations": dict(annotations or {})}
    return {"apiVersion": "kubevirt.io/v1", "kind": resource.kind, "metadata": metadata, "spec": wrapped}


def admitted(
    resource: Any, obj: Obj, *rights: Access, old: Obj | None = None, ours: bool = False, config: Obj = BOTH
) -> tuple[Any, list[str]]:
    requester = Requester("alice", ours=ours, may=lambda access: access in rights)
    context = AdmissionContext(effective(config, registry()), registry(), requester=requester, cluster=True)
    found = admit("UPDATE" if old else "CREATE", resource, obj, old, context)
    recorded = (found.obj["metadata"].get("annotations") or {}).get(ANNOTATION)
    return recorded, [problem.field for problem in found.problems if "may not use" in problem.message]


def test_a_cluster_enables_qemu_alone() -> None:
    for configuration in ({}, {"hypervisors": []}):
        assert effective(configuration, registry())["hypervisors"] == [{"name": "qemu"}]
    assert effective(BOTH, registry()) == BOTH


def test_what_a_table_says_of_launchers_is_what_they_are() -> None:
    for driver in registry():
        privileged = driver.launcher(Path("/launcher")).privileged
        if answer(driver, BY_ID["isolation.launcher"]).verdict is Verdict.SUPPORTED:
            assert not privileged, driver.name
        if privileged:
            assert not isolated(driver), driver.name
    assert [driver.name for driver in registry() if not isolated(driver)] == ["ch", "lxc", "openvz"]


@pytest.mark.parametrize(("resource", "path"), KINDS)
def test_a_weaker_driver_is_named_by_who_may_use_it(resource: Any, path: str) -> None:
    assert admitted(resource, machine(resource, driver="lxc")) == (None, [f"{path}.hypervisor.driver"])
    assert admitted(resource, machine(resource, anyOf=["lxc"])) == (None, [f"{path}.hypervisor.anyOf"])
    assert admitted(resource, machine(resource, driver="lxc"), USE) == ("lxc", [])
    assert admitted(resource, machine(resource, driver="qemu")) == (None, [])
    assert admitted(resource, machine(resource, anyOf=["qemu", "lxc"])) == (None, [])


@pytest.mark.parametrize(("resource", "path"), KINDS)
def test_what_a_user_writes_into_the_record_is_nothing(resource: Any, path: str) -> None:
    forged = machine(resource, {ANNOTATION: "lxc"})
    assert admitted(resource, forged) == (None, [])
    assert admitted(resource, forged, USE) == ("lxc", [])
    context = AdmissionContext(BOTH, registry())
    stored = admit("CREATE", resource, machine(resource), None, context).obj
    ours = {**stored, "metadata": {**stored["metadata"], "annotations": {ANNOTATION: "lxc"}}}
    assert admitted(resource, ours, old=stored)[0] is None
    assert admitted(resource, stored, old=ours)[0] == "lxc"


def test_a_change_of_a_machine_asks_whoever_makes_it() -> None:
    context = AdmissionContext(BOTH, registry())
    old = admit("CREATE", VMS, machine(VMS, {ANNOTATION: "lxc"}, driver="lxc"), None, context).obj
    started = {**old, "spec": {**old["spec"], "runStrategy": "Always"}}
    assert admitted(VMS, started, old=old) == ("lxc", [])
    template = {**old["spec"]["template"], "spec": {**old["spec"]["template"]["spec"], "hostname": "other"}}
    changed = {**old, "spec": {**old["spec"], "template": template}}
    assert admitted(VMS, changed, old=old) == (None, ["spec.template.spec.hypervisor.driver"])
    assert admitted(VMS, changed, USE, old=old) == ("lxc", [])
    assert admitted(VMS, changed, old=old, ours=True) == ("lxc", [])


def test_a_template_hands_on_what_its_owner_was_allowed() -> None:
    owner = machine(REPLICA_SETS, {ANNOTATION: "lxc"})
    owner["metadata"]["uid"] = "u"
    assert instance_of(owner)["metadata"]["annotations"] == {ANNOTATION: "lxc"}
    owner["metadata"]["annotations"] = {}
    assert instance_of(owner)["metadata"]["annotations"] == {}


@pytest.mark.parametrize(("annotations", "chosen"), [({}, ""), ({ANNOTATION: "lxc"}, "lxc"), ({ANNOTATION: "ch"}, "")])
def test_placement_takes_what_is_recorded_also_where_the_choice_is_open(annotations: Obj, chosen: str) -> None:
    obj = machine(VMIS, annotations)
    labels = {driver_label("lxc"): "true", virt_type_label("lxc", "lxc"): "true"}
    node = {"metadata": {"name": "n", "labels": labels}, "spec": {}, "status": {}}
    spec = VirtualMachineInstanceSpec.model_validate(obj["spec"])
    config = KubeVirtConfiguration.model_validate(BOTH)
    found = place(spec, config, [node], registry(), permits=permits(obj))
    assert (found.driver.name if found.driver else "") == chosen
    if not chosen:
        (why,) = [one for one in found.candidates if one.driver == "lxc"]
        assert "may not use LXC" in str(why)
