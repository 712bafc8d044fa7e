from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from polyvisor.api.resources import (
    CLUSTER_INSTANCETYPES,
    CLUSTER_PREFERENCES,
    CONTROLLER_REVISIONS,
    PREFERENCES,
    VMS,
    Resource,
)
from polyvisor.controllers.objects import condition
from polyvisor.controllers.revisions import shortened
from polyvisor.kube import Informer
from tests.controllers.conftest import NAMESPACE, World, instance

Obj = dict[str, Any]
SMALL: Obj = {"cpu": {"guest": 2}, "memory": {"guest": "64Mi"}}
LARGE: Obj = {"cpu": {"guest": 4}, "memory": {"guest": "128Mi"}}


async def make(world: World, resource: Resource, name: str, spec: Obj) -> Obj:
    namespace = {"namespace": NAMESPACE} if resource.namespaced else {}
    body = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name, **namespace}}
    return await world.client.create(resource, body | {"spec": spec})


async def create(world: World, **spec: Any) -> Obj:
    template = {"metadata": {"annotations": {"example.com/own": "1"}}, "spec": {"domain": {"devices": {}}}}
    body = instance("m") | {"kind": "VirtualMachine", "spec": {"template": template} | spec}
    return await world.client.create(VMS, body)


async def stop(world: World) -> None:
    await world.change(VMS, "m", spec={"runStrategy": "Halted"})
    pod = await world.pod("m", lambda p: p["metadata"].get("deletionTimestamp"))
    await world.end_pod(pod)
    await world.gone(world.vmis, "m")


def kept(vm: Obj, field: str = "instancetype") -> str:
    return str(vm["status"][f"{field}Ref"]["controllerRevisionRef"]["name"])


async def test_what_the_machine_came_to_is_kept_and_later_changes_are_for_new_machines(world: World) -> None:
    size = await make(world, CLUSTER_INSTANCETYPES, "small", SMALL)
    await make(world, PREFERENCES, "mine", {"cpu": {"preferredCPUTopology": "sockets"}})
    preference = {"name": "mine", "kind": "VirtualMachinePreference"}
    made = await create(world, runStrategy="Halted", instancetype={"name": "small"}, preference=preference)
    vm = await world.vm("m", lambda v: v["status"]["instancetypeRef"] and v["status"]["preferenceRef"])
    assert vm["status"]["instancetypeRef"]["kind"] == "VirtualMachineClusterInstancetype"
    assert vm["status"]["preferenceRef"]["name"] == "mine"
    revision = await world.client.get(CONTROLLER_REVISIONS, kept(vm), NAMESPACE)
    assert revision["metadata"]["name"] == f"m-small-v1beta1-{size['metadata']['uid']}-1"
    assert revision["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
    assert revision["metadata"]["labels"]["instancetype.kubevirt.io/object-kind"] == "VirtualMachineClusterInstancetype"
    assert revision["data"]["spec"] == SMALL
    await world.client.patch(CLUSTER_INSTANCETYPES, "small", {"spec": LARGE})
    await world.change(VMS, "m", spec={"runStrategy": "Always"})
    vmi = await world.vmi("m", lambda v: True)
    assert vmi["spec"]["domain"]["cpu"] == {"sockets": 2, "cores": 1, "threads": 1}
    assert vmi["spec"]["domain"]["memory"] == {"guest": "64Mi"}
    annotations = vmi["metadata"]["annotations"]
    assert annotations["kubevirt.io/cluster-instancetype-name"] == "small"
    assert annotations["kubevirt.io/preference-name"] == "mine"
    assert annotations["example.com/own"] == "1"
    await world.client.delete(VMS, "m", NAMESPACE)
    async with Informer(world.client, CONTROLLER_REVISIONS) as revisions:
        await revisions.wait_until(lambda i: not i.items(), 10)


async def test_a_reference_taken_out_of_the_status_is_made_anew(world: World) -> None:
    await make(world, CLUSTER_INSTANCETYPES, "small", SMALL)
    await create(world, runStrategy="Halted", instancetype={"name": "small"})
    first = kept(await world.vm("m", lambda v: kept(v)))
    await world.client.patch(CLUSTER_INSTANCETYPES, "small", {"spec": LARGE})
    await world.client.patch(VMS, "m", {"status": {"instancetypeRef": None}}, NAMESPACE, subresource="status")
    await world.vm("m", lambda v: kept(v) != first)
    await world.change(VMS, "m", spec={"runStrategy": "Always"})
    vmi = await world.vmi("m", lambda v: True)
    assert vmi["spec"]["domain"]["memory"] == {"guest": "128Mi"}


async def test_a_revision_that_is_gone_is_made_anew_for_the_next_start(world: World) -> None:
    await make(world, CLUSTER_INSTANCETYPES, "small", SMALL)
    await create(world, runStrategy="Halted", instancetype={"name": "small"})
    first = kept(await world.vm("m", lambda v: kept(v)))
    await world.client.patch(CLUSTER_INSTANCETYPES, "small", {"spec": LARGE})
    await world.client.delete(CONTROLLER_REVISIONS, first, NAMESPACE)
    await world.change(VMS, "m", spec={"runStrategy": "Always"})
    vmi = await world.vmi("m", lambda v: True)
    assert vmi["spec"]["domain"]["memory"] == {"guest": "128Mi"}
    second = kept(await world.vm("m", lambda v: kept(v) != first))
    assert (await world.client.get(CONTROLLER_REVISIONS, second, NAMESPACE))["data"]["spec"] == LARGE


async def test_a_revision_of_the_expected_name_with_other_data_is_noticed(world: World) -> None:
    """Whoever can write ControllerRevisions would else say what size the machine has."""
    size = await make(world, CLUSTER_INSTANCETYPES, "small", SMALL)
    kind = {"apiVersion": CLUSTER_INSTANCETYPES.api_version, "kind": CLUSTER_INSTANCETYPES.kind}
    name = f"m-small-v1beta1-{size['metadata']['uid']}-1"
    await put_revision(world, name, {**kind, "metadata": {"name": "small"}, "spec": LARGE})
    await create(world, runStrategy="Always", instancetype={"name": "small"})
    vm = await world.vm("m", lambda v: condition(v, "Failure"))
    failure = condition(vm, "Failure")
    assert failure is not None
    assert f"found existing ControllerRevision with unexpected data: {name}" in failure["message"]
    assert "instancetypeRef" not in vm["status"]


async def test_a_revision_of_the_expected_name_with_the_same_data_is_taken(world: World) -> None:
    size = await make(world, CLUSTER_INSTANCETYPES, "small", SMALL)
    kind = {"apiVersion": CLUSTER_INSTANCETYPES.api_version, "kind": CLUSTER_INSTANCETYPES.kind}
    name = f"m-small-v1beta1-{size['metadata']['uid']}-1"
    await put_revision(world, name, {**kind, "metadata": {"name": "small"}, "spec": SMALL})
    await create(world, runStrategy="Halted", instancetype={"name": "small"})
    assert kept(await world.vm("m", lambda v: kept(v))) == name


async def put_revision(world: World, name: str, data: Obj, labels: dict[str, str] | None = None) -> None:
    metadata = {"name": name, "namespace": NAMESPACE, "labels": labels or {}}
    kind = {"apiVersion": CONTROLLER_REVISIONS.api_version, "kind": CONTROLLER_REVISIONS.kind}
    await world.client.create(CONTROLLER_REVISIONS, {**kind, "metadata": metadata, "data": data, "revision": 0})


@pytest.mark.parametrize("form", ["v1beta1", "v1alpha2", "v1alpha1", "spec alone"])
@pytest.mark.parametrize("field", ["instancetype", "preference"])
async def test_revisions_of_older_releases_become_present_ones(world: World, field: str, form: str) -> None:
    """KubeVirt's ``tests/instancetype/upgrade.go``: a revision without the label of its version is replaced."""
    await make(world, CLUSTER_INSTANCETYPES, "small", SMALL)
    resource = CLUSTER_INSTANCETYPES if field == "instancetype" else CLUSTER_PREFERENCES
    spec = LARGE if field == "instancetype" else {"cpu": {"preferredCPUTopology": "preferSockets"}}
    await make(world, CLUSTER_PREFERENCES, "mine", {})
    names = {"instancetype": {"name": "small"}, "preference": {"name": "mine"}}
    await create(world, runStrategy="Halted", **names)
    first = kept(await world.vm("m", lambda v: kept(v) and kept(v, "preference")), field)
    metadata = {"name": names[field]["name"], "uid": "old-uid", "generation": 1}
    data = {"apiVersion": f"{resource.group}/{form}", "kind": resource.kind, "metadata": metadata, "spec": spec}
    if form == "spec alone":
        data = {
            "apiVersion": f"{resource.group}/v1alpha1",
            "spec": base64.b64encode(json.dumps(spec).encode()).decode(),
        }
    await put_revision(world, "legacy", data)
    reference = {f"{field}Ref": {"controllerRevisionRef": {"name": "legacy"}}}
    await world.client.patch(VMS, "m", {"status": reference}, NAMESPACE, subresource="status")
    name = kept(await world.vm("m", lambda v: kept(v, field) not in (first, "legacy")), field)
    revision = await world.client.get(CONTROLLER_REVISIONS, name, NAMESPACE)
    assert revision["metadata"]["labels"]["instancetype.kubevirt.io/object-version"] == "v1beta1"
    assert (revision["data"]["apiVersion"], revision["data"]["kind"]) == (resource.api_version, resource.kind)
    assert revision["data"]["spec"] == spec
    async with Informer(world.client, CONTROLLER_REVISIONS) as revisions:
        await revisions.wait_until(lambda i: i.get(NAMESPACE, "legacy") is None, 10)


async def test_a_reference_that_is_given_up_leaves_the_status(world: World) -> None:
    await make(world, CLUSTER_INSTANCETYPES, "small", SMALL)
    await create(world, runStrategy="Halted", instancetype={"name": "small"})
    await world.vm("m", lambda v: kept(v))
    await world.change(VMS, "m", spec={"instancetype": None})
    await world.vm("m", lambda v: "instancetypeRef" not in v["status"])


async def test_another_instance_type_asks_for_a_restart(world: World) -> None:
    await make(world, CLUSTER_INSTANCETYPES, "small", SMALL)
    await make(world, CLUSTER_INSTANCETYPES, "large", LARGE)
    await create(world, runStrategy="Always", instancetype={"name": "small"})
    first = kept(await world.vm("m", lambda v: kept(v)))
    await world.running("m")
    await world.change(VMS, "m", spec={"instancetype": {"name": "large"}})
    vm = await world.vm("m", lambda v: condition(v, "RestartRequired") and kept(v) != first)
    found = condition(vm, "RestartRequired") or {}
    assert found["message"] == "a non-live-updatable field was changed in the template spec"
    await stop(world)
    await world.vm("m", lambda v: not condition(v, "RestartRequired"))


async def test_an_instance_type_that_is_missing_is_told_and_waited_for(world: World) -> None:
    await create(world, runStrategy="Always", instancetype={"name": "small"})
    vm = await world.vm("m", lambda v: condition(v, "Failure"))
    failure = condition(vm, "Failure") or {}
    assert failure["reason"] == "FailedFindInstancetype"
    assert '"small" not found' in failure["message"]
    assert (await world.event("FailedFindInstancetype"))["type"] == "Warning"
    await make(world, CLUSTER_INSTANCETYPES, "small", SMALL)
    await world.change(VMS, "m", metadata={"labels": {"look": "again"}})
    await world.vm("m", lambda v: kept(v))
    await world.change(VMS, "m", spec={"template": {"metadata": {"labels": {"new": "generation"}}}})
    await world.vmi("m", lambda v: True)
    await world.vm("m", lambda v: not condition(v, "Failure"))


async def test_a_machine_that_does_not_go_with_its_instance_type_is_not_made(world: World) -> None:
    await make(world, CLUSTER_INSTANCETYPES, "small", SMALL)
    template = {"spec": {"domain": {"devices": {}, "memory": {"guest": "1Gi"}}}}
    await create(world, runStrategy="Always", instancetype={"name": "small"}, template=template)
    vm = await world.vm("m", lambda v: condition(v, "Failure"))
    assert (condition(vm, "Failure") or {})["message"] == (
        "spec.template.spec.domain.memory.guest: VM field(s) spec.template.spec.domain.memory.guest conflicts with "
        "selected instance type"
    )
    assert world.vmis.get(NAMESPACE, "m") is None


async def test_what_an_instance_was_started_from_is_kept_until_the_next(world: World) -> None:
    made = await world.create_vm("m", runStrategy="Always")
    vmi = await world.vmi("m", lambda v: True)
    name = vmi["status"]["virtualMachineRevisionName"]
    assert name == f"revision-start-vm-{made['metadata']['uid']}-1"
    await world.running("m")
    assert world.vmis.get(NAMESPACE, "m")["status"]["virtualMachineRevisionName"] == name  # type: ignore[index]
    await world.change(VMS, "m", spec={"template": {"spec": {"domain": {"memory": {"guest": "128Mi"}}}}})
    await world.vm("m", lambda v: condition(v, "RestartRequired"))
    revision = await world.client.get(CONTROLLER_REVISIONS, name, NAMESPACE)
    assert revision["data"]["spec"]["template"]["spec"]["domain"]["memory"] == {"guest": "64Mi"}
    await stop(world)
    await world.change(VMS, "m", spec={"runStrategy": "Always"})
    await world.vmi("m", lambda v: v["status"]["virtualMachineRevisionName"] != name)
    async with Informer(world.client, CONTROLLER_REVISIONS) as revisions:
        await revisions.wait_until(lambda i: len(i.items()) == 1 and i.get(NAMESPACE, name) is None, 10)


def test_long_names_are_shortened_and_differ() -> None:
    assert shortened("short", 253) == "short"
    one, other = shortened("a" * 300 + "1", 253), shortened("a" * 300 + "2", 253)
    assert len(one) == len(other) == 253
    assert one != other
