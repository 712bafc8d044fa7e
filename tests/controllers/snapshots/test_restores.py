"""The restore controller against an API server; the test plays the CSI driver."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from polyvisor.api.resources import PVCS, RESTORES, VMIS, VMS
from polyvisor.api.snapshots import CONTENT_ANNOTATION
from polyvisor.kube import Informer
from polyvisor.placement.permission import ANNOTATION
from tests.controllers.conftest import NAMESPACE, World, instance

from .conftest import absent, bind, claim, classes, machine, machine_spec, taken
from .test_snapshots import seen as seen_snapshot
from .test_snapshots import snapshot, volume_snapshots

Obj = dict[str, Any]


async def ready(world: World, *claims: str) -> None:
    """Make a machine with a snapshot of it."""
    await classes(world)
    for name in claims:
        await claim(world, name)
    await machine(world, *claims)
    await snapshot(world)
    for volume in await volume_snapshots(world, len(claims)):
        await taken(world, volume["metadata"]["name"], restoreSize="2Gi")
    await seen_snapshot(world, lambda s: s.get("readyToUse"))
    await world.vm("m", lambda v: "snapshotInProgress" not in v["status"])


async def restore(world: World, name: str = "r", to: str = "m", annotations: Obj | None = None, **spec: Any) -> Obj:
    target = {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": to}
    body = {
        "apiVersion": RESTORES.api_version,
        "kind": RESTORES.kind,
        "metadata": {"name": name, "namespace": NAMESPACE, "annotations": annotations or {}},
        "spec": {"target": target, "virtualMachineSnapshotName": "s", **spec},
    }
    return await world.client.create(RESTORES, body)


async def seen(world: World, until: Callable[[Obj], Any], name: str = "r") -> Obj:
    async with Informer(world.client, RESTORES) as restores:

        def look(i: Informer) -> Obj:
            found = i.get(NAMESPACE, name)
            return found if found and until(found.get("status") or {}) else {}

        return await restores.wait_until(look, 15)


async def entries(world: World) -> list[Obj]:
    found: list[Obj] = (await seen(world, lambda s: s.get("restores")))["status"]["restores"]
    return found


async def made(world: World, name: str) -> Obj:
    async with Informer(world.client, PVCS) as claims:
        return await claims.wait_until(lambda i: i.get(NAMESPACE, name) or {}, 10)


async def test_a_machine_gets_new_claims_and_its_spec_of_then(world: World) -> None:
    await ready(world, "a")
    await world.change(VMS, "m", spec={"template": {"spec": {"domain": {"memory": {"guest": "999Mi"}}}}})
    asked = await restore(world)
    name = f"restore-{asked['metadata']['uid']}-a"
    found = await made(world, name)
    assert found["spec"]["dataSource"]["kind"] == "VolumeSnapshot"
    assert found["spec"]["resources"] == {"requests": {"storage": "2Gi"}}
    assert found["spec"]["storageClassName"] == "fast"
    held = await world.vm("m", lambda v: v["status"].get("restoreInProgress") == "r")
    assert held["spec"]["template"]["spec"]["domain"]["memory"]["guest"] == "999Mi"  # until all claims are there
    await world.change(VMS, "m", spec={"runStrategy": "Halted"})
    await bind(world, name)
    await seen(world, lambda s: s.get("complete"))
    vm = await world.vm("m", lambda v: "restoreInProgress" not in v["status"])
    inner = vm["spec"]["template"]["spec"]
    assert inner["domain"]["memory"]["guest"] == "64Mi"
    assert inner["volumes"][0]["persistentVolumeClaim"] == {"claimName": name}
    owner = (await world.client.get(PVCS, name, NAMESPACE))["metadata"]["ownerReferences"][0]
    assert owner["uid"] == vm["metadata"]["uid"]
    assert not await absent(world, PVCS, "a")


async def test_a_machine_is_not_started_while_it_is_restored(world: World) -> None:
    await ready(world, "a")
    await restore(world)
    await world.vm("m", lambda v: v["status"].get("restoreInProgress") == "r")
    await world.request("m", {"action": "Start"})
    assert await world.client.list(VMIS, NAMESPACE) == []


async def test_another_machine_is_made_and_patched(world: World) -> None:
    await ready(world, "a")
    patch = json.dumps({"op": "replace", "path": "/spec/template/spec/domain/memory/guest", "value": "77Mi"})
    await restore(world, to="n", patches=[patch], volumeRestorePolicy="PrefixTargetName")
    await made(world, "n-a")
    await bind(world, "n-a")
    await seen(world, lambda s: s.get("complete"))
    vm = await world.vm("n", lambda v: True)
    assert vm["spec"]["runStrategy"] == "Halted"
    assert vm["spec"]["template"]["spec"]["domain"]["memory"]["guest"] == "77Mi"
    owner = (await world.client.get(PVCS, "n-a", NAMESPACE))["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["uid"]) == ("VirtualMachine", vm["metadata"]["uid"])


async def test_weaker_drivers_are_those_that_the_restores_writer_may_use(world: World) -> None:
    await classes(world)
    await claim(world, "a")
    await machine(world, "a")
    await world.change(VMS, "m", metadata={"annotations": {ANNOTATION: "its-writer", "note": "kept"}})
    await snapshot(world)
    (volume,) = await volume_snapshots(world, 1)
    await taken(world, volume["metadata"]["name"])
    await seen_snapshot(world, lambda s: s.get("readyToUse"))
    for to, allowed in (("n", "beta"), ("o", "")):
        await restore(world, f"r-{to}", to, volumeRestorePolicy="PrefixTargetName", annotations={ANNOTATION: allowed})
        await made(world, f"{to}-a")
        await bind(world, f"{to}-a")
        vm = await world.vm(to, lambda v: True)
        assert vm["metadata"]["annotations"].get(ANNOTATION, "") == allowed
        assert vm["metadata"]["annotations"]["note"] == "kept"


async def test_a_claim_is_replaced_in_its_place(world: World) -> None:
    await ready(world, "a")
    before = await world.client.get(PVCS, "a", NAMESPACE)
    await restore(world, volumeRestorePolicy="InPlace")
    async with Informer(world.client, PVCS) as claims:
        uid = before["metadata"]["uid"]
        await claims.wait_until(lambda i: (i.get(NAMESPACE, "a") or before)["metadata"]["uid"] != uid, 10)
    await bind(world, "a")
    await seen(world, lambda s: s.get("complete"))
    vm = await world.vm("m", lambda v: "restoreInProgress" not in v["status"])
    assert vm["spec"]["template"]["spec"]["volumes"][0]["persistentVolumeClaim"] == {"claimName": "a"}


async def test_a_claim_of_another_machine_is_not_replaced(world: World) -> None:
    await ready(world, "a")
    await restore(world, to="n", volumeRestorePolicy="InPlace")
    failed = await seen(world, lambda s: "Failure" in json.dumps(s))
    assert "VirtualMachine m uses it" in json.dumps(failed)
    assert not await absent(world, PVCS, "a")
    assert await absent(world, VMS, "n")


async def test_a_claim_of_an_instance_without_a_machine_is_not_replaced(world: World) -> None:
    await ready(world, "a")
    await world.client.delete(VMS, "m", NAMESPACE)
    await world.client.create(VMIS, {**instance("alone"), "spec": machine_spec("a")})
    await restore(world, to="n", volumeRestorePolicy="InPlace")
    failed = await seen(world, lambda s: "Failure" in json.dumps(s))
    assert "VirtualMachineInstance alone uses it" in json.dumps(failed)
    assert not await absent(world, PVCS, "a")


async def test_no_claim_is_replaced_but_the_one_that_was_snapshotted(world: World) -> None:
    """Else whoever may restore could have any claim of the namespace deleted."""
    await ready(world, "a")
    await claim(world, "of-others")
    before = await world.client.get(PVCS, "of-others", NAMESPACE)
    override = {"volumeName": "a", "restoreName": "of-others"}
    await restore(world, volumeRestorePolicy="InPlace", volumeRestoreOverrides=[override])
    failed = await seen(world, lambda s: "Failure" in json.dumps(s))
    assert "exists already; it is not of this restore" in json.dumps(failed)
    after = await world.client.get(PVCS, "of-others", NAMESPACE)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert "deletionTimestamp" not in after["metadata"]


async def test_a_template_that_names_anothers_claim_does_not_have_it_deleted(world: World) -> None:
    await ready(world, "a")
    await claim(world, "of-others")
    template = {"metadata": {"name": "of-others"}, "spec": {"source": {"blank": {}}}}
    await world.change(VMS, "m", spec={"dataVolumeTemplates": [template]})
    await restore(world)
    (name,) = [entry["persistentVolumeClaim"] for entry in await entries(world)]
    await made(world, name)
    await bind(world, name)
    done = await seen(world, lambda s: s.get("complete"))
    assert done["status"]["deletedDataVolumes"] == ["of-others"]
    assert not await absent(world, PVCS, "of-others")


async def test_a_snapshot_that_took_the_name_of_another_is_not_restored(world: World) -> None:
    """Its machine was judged by nobody."""
    await ready(world, "a")
    await restore(world, to="n", annotations={CONTENT_ANNOTATION: "vmsnapshot-content-of-before"})
    failed = await seen(world, lambda s: "Failure" in json.dumps(s))
    assert "is another one than when the restore was made" in json.dumps(failed)
    assert await absent(world, VMS, "n")


async def test_an_existing_machine_that_is_not_the_source_is_refused(world: World) -> None:
    await ready(world, "a")
    await world.create_vm("n", runStrategy="Halted")
    await restore(world, to="n")
    failed = await seen(world, lambda s: "Failure" in json.dumps(s))
    assert "restore source and restore target are different but restore target already exists" in json.dumps(failed)
    assert [one["metadata"]["name"] for one in await world.client.list(PVCS, NAMESPACE)] == ["a"]


async def test_a_running_target_is_refused_or_stopped(world: World) -> None:
    await ready(world, "a")
    await world.change(VMS, "m", spec={"runStrategy": "Always"})
    await world.vmi("m", lambda v: True)
    await restore(world, "fails", targetReadinessPolicy="FailImmediate")
    failed = await seen(world, lambda s: "Failure" in json.dumps(s), "fails")
    assert "must be powered off" in json.dumps(failed)
    await restore(world, "waits", targetReadinessPolicy="WaitEventually")
    waiting = await seen(world, lambda s: "Waiting for target VM" in json.dumps(s), "waits")
    assert "Failure" not in json.dumps(waiting)
    await world.client.delete(RESTORES, "waits", NAMESPACE)
    await restore(world, "stops", targetReadinessPolicy="StopTarget")
    await world.vm("m", lambda v: v["spec"]["runStrategy"] == "Halted")


async def test_a_wrong_patch_leaves_nothing(world: World) -> None:
    await ready(world, "a")
    patch = json.dumps({"op": "remove", "path": "/spec/nothing/here"})
    asked = await restore(world, to="n", patches=[patch])
    name = f"restore-{asked['metadata']['uid']}-a"
    await made(world, name)
    await bind(world, name)
    failed = await seen(world, lambda s: "Failure" in json.dumps(s))
    assert "does not fit" in json.dumps(failed)
    async with Informer(world.client, PVCS) as claims:
        await claims.wait_until(lambda i: i.get(NAMESPACE, name) is None, 10)
    assert await absent(world, VMS, "n")
