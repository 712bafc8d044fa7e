"""DataVolumes from a machine's templates, and machines that wait until their volumes are filled."""

from __future__ import annotations

from typing import Any

import pytest

from polyvisor.api import Obj
from polyvisor.api.resources import CONFIGMAPS, DATAVOLUMES, PVCS, VMS
from polyvisor.controllers import data_volumes
from polyvisor.controllers.objects import condition
from polyvisor.kube import ApiError
from tests.controllers.conftest import NAMESPACE, World, instance

SPEC: Obj = {"source": {"blank": {}}, "storage": {"resources": {"requests": {"storage": "1Gi"}}}}
TEMPLATE: Obj = {"metadata": {"name": "disk", "labels": {"a": "b"}}, "spec": SPEC}
VOLUMES: Obj = {"volumes": [{"name": "d", "dataVolume": {"name": "disk"}}]}


def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_volumes, "LOOK_SECONDS", 0.05)


async def machine(world: World, strategy: str = "Always") -> None:
    body = instance("m", VOLUMES)
    vm = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "m", "namespace": NAMESPACE},
        "spec": {"runStrategy": strategy, "dataVolumeTemplates": [TEMPLATE], "template": {"spec": body["spec"]}},
    }
    await world.client.create(VMS, vm)


async def fill(world: World, phase: str, running: Obj | None = None) -> None:
    """Play what fills volumes."""
    status: Obj = {"phase": phase, "conditions": [{"type": "Running", "status": "False", **(running or {})}]}
    await world.client.patch(DATAVOLUMES, "disk", {"status": status}, NAMESPACE, subresource="status")


async def claim(world: World, **metadata: Any) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    made = {"apiVersion": "v1", "kind": PVCS.kind, "metadata": {"name": "disk", "namespace": NAMESPACE, **metadata}}
    await world.client.create(PVCS, {**made, "spec": spec})


async def test_a_machine_waits_for_the_volumes_of_its_templates(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fast(monkeypatch)
    await machine(world)
    vm = await world.vm("m", lambda vm: vm["status"].get("printableStatus") == "Provisioning")
    volume = await world.client.get(DATAVOLUMES, "disk", NAMESPACE)
    assert volume["spec"] == SPEC
    assert volume["metadata"]["labels"] == {"a": "b"}
    assert volume["metadata"]["ownerReferences"][0]["uid"] == vm["metadata"]["uid"]
    assert volume["metadata"]["annotations"][data_volumes.BIND_NOW] == "true"
    await world.event("SuccessfulDataVolumeCreate")
    owner = {"apiVersion": DATAVOLUMES.api_version, "kind": "DataVolume", "name": "disk", "controller": True}
    await claim(world, ownerReferences=[{**owner, "uid": volume["metadata"]["uid"]}])
    await fill(world, "ImportInProgress")
    vmi = await world.vmi("m", lambda vmi: "ImportInProgress" in str(vmi["status"]))
    ready = condition(vmi, "DataVolumesReady")
    assert ready is not None
    assert (ready["status"], ready["reason"]) == ("False", "NotAllDVsReady")
    await fill(world, "ImportInProgress", {"reason": "Error", "message": "no route to host"})
    await world.vm("m", lambda vm: vm["status"].get("printableStatus") == "DataVolumeError")
    await fill(world, "WaitForFirstConsumer")
    await world.vm("m", lambda vm: vm["status"].get("printableStatus") == "WaitingForVolumeBinding")
    assert world.pods.items() == []
    await fill(world, "Succeeded")
    await world.running()
    vm = await world.vm("m", lambda vm: vm["status"].get("printableStatus") == "Running")
    vmi = await world.vmi("m", lambda vmi: True)
    assert condition(vmi, "Synchronized") is None


async def test_volumes_are_made_although_the_machine_is_off(world: World) -> None:
    await machine(world, "Halted")
    await world.event("SuccessfulDataVolumeCreate")
    assert (await world.client.get(DATAVOLUMES, "disk", NAMESPACE))["spec"] == SPEC


async def test_a_volume_of_somebody_else_is_not_taken(world: World) -> None:
    other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": NAMESPACE}}
    uid = (await world.client.create(CONFIGMAPS, other))["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": uid, "controller": True}
    metadata = {"name": "disk", "namespace": NAMESPACE, "ownerReferences": [owner]}
    volume = {"apiVersion": DATAVOLUMES.api_version, "kind": "DataVolume", "metadata": metadata, "spec": SPEC}
    await world.client.create(DATAVOLUMES, volume)
    await machine(world)
    vm = await world.vm("m", lambda vm: condition(vm, "Failure"))
    failure = condition(vm, "Failure")
    assert failure is not None
    assert failure["reason"] == "FailedDataVolumeCreate"
    assert "belongs to another object" in failure["message"]
    assert world.vmis.items() == []


async def test_a_filled_claim_needs_its_volume_no_longer(world: World) -> None:
    await claim(world)
    await machine(world)
    await world.pod("m")
    assert await world.client.list(DATAVOLUMES, NAMESPACE) == []


async def test_an_instance_whose_volume_is_missing_says_so(world: World) -> None:
    await world.create_vmi("m", VOLUMES)
    vmi = await world.vmi("m", lambda vmi: condition(vmi, "Synchronized"))
    told = condition(vmi, "Synchronized")
    assert told is not None
    assert told["message"] == f"DataVolume disk not found in namespace {NAMESPACE}"
    await claim(world)
    await world.pod("m")


class Reviews:
    """A client that answers SubjectAccessReviews, and takes DataVolumes."""

    def __init__(self, allowed: bool) -> None:
        self.allowed = allowed
        self.asked: list[Obj] = []
        self.made: list[Obj] = []

    async def get(self, resource: Any, name: str, *_: Any) -> Obj:
        raise ApiError(404, "NotFound", f"{resource.plural} {name}")

    async def create(self, resource: Any, obj: Obj) -> Obj:
        if resource == DATAVOLUMES:
            self.made.append(obj)
            return obj
        self.asked.append(obj["spec"])
        return {**obj, "status": {"allowed": self.allowed}}

    def event(self, *told: Any) -> None:
        self.told = told[1:]


@pytest.mark.parametrize("kind", ["pvc", "snapshot"])
@pytest.mark.parametrize("account", ["", "worker"])
async def test_what_another_namespace_has_is_copied_by_the_rights_of_the_machines_account(
    kind: str, account: str
) -> None:
    source = {"namespace": "other", "name": "db"}
    template = {"metadata": {"name": "disk"}, "spec": {"source": {kind: source}, "storage": {}}}
    volumes = [{"name": "a", "serviceAccount": {"serviceAccountName": account}}] if account else []
    vm = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine"}
    vm |= {"metadata": {"name": "m", "namespace": NAMESPACE, "uid": "u"}}
    vm["spec"] = {"dataVolumeTemplates": [template], "template": {"spec": {"volumes": volumes}}}
    for allowed in (False, True):
        client: Any = Reviews(allowed)
        trouble = await data_volumes.make_templates(client, client, vm, authorize=True)
        asked = client.asked[0]
        assert asked["user"] == f"system:serviceaccount:{NAMESPACE}:{account or 'default'}"
        assert f"system:serviceaccounts:{NAMESPACE}" in asked["groups"]
        wanted = {"verb": "create", "group": "cdi.kubevirt.io", "resource": "datavolumes", "subresource": "source"}
        assert asked["resourceAttributes"] == {**wanted, **source}
        assert bool(client.made) is allowed
        assert ("may not copy" in trouble) is not allowed
        if not allowed:
            assert client.told[1] == "UnauthorizedDataVolumeCreate"


async def test_a_namespaces_own_claims_are_copied_without_asking() -> None:
    template = {"metadata": {"name": "disk"}, "spec": {"source": {"pvc": {"name": "db", "namespace": NAMESPACE}}}}
    vm = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine"}
    vm |= {"metadata": {"name": "m", "namespace": NAMESPACE, "uid": "u"}}
    vm["spec"] = {"dataVolumeTemplates": [template], "template": {"spec": {}}}
    client: Any = Reviews(False)
    assert await data_volumes.make_templates(client, client, vm, authorize=True) == ""
    assert client.asked == []
    assert len(client.made) == 1


ANNOTATIONS = ("storage.checkStaticVolume", "storage.prePopulated", "storage.usePopulator", "allowClaimAdoption")


@pytest.mark.parametrize("name", ANNOTATIONS)
async def test_no_annotation_of_a_template_is_a_way_around_the_question(name: str) -> None:
    """CVE-2026-133879: with one of them KubeVirt's containerized-data-importer skipped it."""
    metadata = {"name": "disk", "annotations": {f"cdi.kubevirt.io/{name}": "true"}}
    template = {"metadata": metadata, "spec": {"source": {"pvc": {"name": "db", "namespace": "other"}}}}
    vm = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine"}
    vm |= {"metadata": {"name": "m", "namespace": NAMESPACE, "uid": "u"}}
    vm["spec"] = {"dataVolumeTemplates": [template], "template": {"spec": {}}}
    client: Any = Reviews(False)
    assert "may not copy pvc other/db" in await data_volumes.make_templates(client, client, vm, authorize=True)
    assert client.made == []
