"""A migration from its making to its end, with the test in the place of scheduler, nodes and agents."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from polyvisor.api.migrations import FINALIZER, JOB_LABEL, runs_in
from polyvisor.api.resources import MIGRATIONS, PODS, VMIS
from polyvisor.controllers import migration_status
from polyvisor.controllers.evacuation import EvacuationController, leaves
from polyvisor.controllers.migration import VMI_INDEX
from polyvisor.controllers.migration_pod import cpu_of
from polyvisor.kube import EventRecorder, Informer

from .conftest import NAMESPACE, World, compute

Obj = dict[str, Any]
AT = datetime(2026, 1, 1, tzinfo=UTC)
STAMP = "2026-01-01T00:00:00Z"
READY = {"type": "Ready", "status": "True", "lastTransitionTime": STAMP}
MOVABLE = {"type": "LiveMigratable", "status": "True", "lastTransitionTime": STAMP}


def migration(name: str = "move", **spec: Any) -> Obj:
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstanceMigration",
        "metadata": {"name": name, "namespace": NAMESPACE, "finalizers": [FINALIZER]},
        "spec": {"vmiName": "m", **spec},
    }


async def until(world: World, reached: Callable[[Obj], Any], name: str = "move") -> Obj:
    informer = Informer(world.client, MIGRATIONS)
    await informer.start()
    try:
        found = await informer.wait_until(lambda i: (one := i.get(NAMESPACE, name)) and reached(one) and one, 10)
    finally:
        await informer.stop()
    assert found is not None
    return dict(found)


def phase(migration: Obj) -> str:
    return str((migration.get("status") or {}).get("phase"))


async def runs(world: World, *conditions: Obj) -> Obj:
    """Have a machine that runs on n1, and a second node; return its Pod."""
    await world.create_vmi()
    pod = await world.running()
    await world.vmi_status("m", conditions=[READY, *(conditions or (MOVABLE,))])
    return pod


async def target(world: World) -> Obj:
    return await world.pod("m", lambda p: JOB_LABEL in p["metadata"]["labels"])


async def state(world: World, **fields: Any) -> None:
    """Write what the source's agent writes."""
    vmi = await world.client.get(VMIS, "m", NAMESPACE)
    await world.vmi_status("m", migrationState={**vmi["status"]["migrationState"], **fields})


async def test_it_goes_through_kubevirts_phases(world: World) -> None:
    first = await runs(world)
    await world.client.create(MIGRATIONS, migration(addedNodeSelector={"disk": "fast"}))
    pod = await target(world)
    assert pod["metadata"]["annotations"]["kubevirt.io/migrationJobName"] == "move"
    assert pod["spec"]["nodeSelector"]["disk"] == "fast"
    (apart,) = pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert apart["topologyKey"] == "kubernetes.io/hostname"
    uid = pod["metadata"]["labels"]["kubevirt.io/created-by"]
    assert apart["labelSelector"]["matchLabels"] == {"kubevirt.io/created-by": uid}
    await until(world, lambda m: phase(m) == "Scheduling")
    await world.run_pod(pod, "n2")
    vmi = await world.vmi("m", lambda v: v["status"].get("migrationState"))
    told = vmi["status"]["migrationState"]
    assert (told["sourceNode"], told["targetNode"]) == ("n1", "n2")
    assert (told["sourcePod"], told["targetPod"]) == (first["metadata"]["name"], pod["metadata"]["name"])
    assert vmi["status"]["nodeName"] == "n1", "the guest is where it was"
    assert vmi["status"]["activePods"] == {first["metadata"]["uid"]: "n1", pod["metadata"]["uid"]: "n2"}
    assert vmi["metadata"]["labels"]["kubevirt.io/migrationTargetNodeName"] == "n2"
    await until(world, lambda m: phase(m) == "PreparingTarget")
    await state(world, targetNodeAddress="10.0.0.2")
    await until(world, lambda m: phase(m) == "TargetReady")
    await state(world, startTimestamp=STAMP)
    await until(world, lambda m: phase(m) == "Running")
    await state(world, completed=True, endTimestamp=STAMP)
    moved = await world.vmi("m", lambda v: v["status"]["nodeName"] == "n2")
    assert moved["metadata"]["labels"]["kubevirt.io/nodeName"] == "n2"
    assert "kubevirt.io/migrationTargetNodeName" not in moved["metadata"]["labels"]
    ended = await until(world, lambda m: phase(m) == "Succeeded")
    passed = [one["phase"] for one in ended["status"]["phaseTransitionTimestamps"]]
    wanted = ["Pending", "Scheduling", "Scheduled", "PreparingTarget", "TargetReady", "Running", "Succeeded"]
    assert passed == wanted
    await world.pod_status(first, phase="Succeeded", containerStatuses=[compute(terminated={"exitCode": 0})])
    await world.vmi("m", lambda v: v["status"]["activePods"] == {pod["metadata"]["uid"]: "n2"})
    assert (await world.client.get(VMIS, "m", NAMESPACE))["status"]["phase"] == "Running", "the old Pod's end is none"


async def test_an_added_selector_frees_no_node_that_the_machine_may_not_have(world: World) -> None:
    await runs(world)
    added = {"hypervisor.kubevirt.io/alpha": "false", "kubevirt.io/schedulable": "false", "disk": "fast"}
    await world.client.create(MIGRATIONS, migration(addedNodeSelector=added))
    selector = (await target(world))["spec"]["nodeSelector"]
    assert selector["disk"] == "fast"
    assert selector["kubevirt.io/schedulable"] == "true"


async def test_a_machine_that_cannot_move_stays(world: World) -> None:
    await runs(world, {**MOVABLE, "status": "False", "reason": "DisksNotLiveMigratable", "message": "a disk"})
    await world.client.create(MIGRATIONS, migration())
    failed = await until(world, lambda m: phase(m) == "Failed")
    assert "a disk" in failed["status"]["migrationState"]["failureReason"]
    assert not [p for p in await world.client.list(PODS, NAMESPACE) if JOB_LABEL in p["metadata"]["labels"]]


async def test_a_target_that_ends_fails_it_and_the_guest_stays(world: World) -> None:
    first = await runs(world)
    await world.client.create(MIGRATIONS, migration())
    pod = await target(world)
    await world.run_pod(pod, "n2")
    await world.vmi("m", lambda v: v["status"].get("migrationState"))
    await world.pod_status(pod, phase="Failed", containerStatuses=[compute(terminated={"exitCode": 1})])
    failed = await world.vmi("m", lambda v: v["status"]["migrationState"].get("failed"))
    assert "the target Pod ended" in failed["status"]["migrationState"]["failureReason"]
    await until(world, lambda m: phase(m) == "Failed")
    stays = await world.vmi("m", lambda v: list(v["status"]["activePods"]) == [first["metadata"]["uid"]])
    assert stays["status"]["phase"] == "Running"
    assert stays["status"]["nodeName"] == "n1"


async def test_a_migration_that_is_deleted_before_it_began_leaves_nothing(world: World) -> None:
    await runs(world)
    await world.client.create(MIGRATIONS, migration())
    pod = await target(world)
    await world.run_pod(pod, "n2")
    await world.vmi("m", lambda v: v["status"].get("migrationState"))
    await world.client.delete(MIGRATIONS, "move", NAMESPACE)
    await world.vmi("m", lambda v: v["status"]["migrationState"].get("failed"))
    name = pod["metadata"]["name"]
    await world.pods.wait_until(
        lambda i: (one := i.get(NAMESPACE, name)) is None or one["metadata"].get("deletionTimestamp"), 10
    )


async def test_one_that_runs_is_asked_to_stop_when_it_is_deleted(world: World) -> None:
    await runs(world)
    await world.client.create(MIGRATIONS, migration())
    await world.run_pod(await target(world), "n2")
    await world.vmi("m", lambda v: v["status"].get("migrationState"))
    await state(world, targetNodeAddress="10.0.0.2", startTimestamp=STAMP)
    await until(world, lambda m: phase(m) == "Running")
    await world.client.delete(MIGRATIONS, "move", NAMESPACE)
    vmi = await world.vmi("m", lambda v: v["status"]["migrationState"].get("abortRequested"))
    assert not vmi["status"]["migrationState"].get("failed"), "the source's agent stops what it has begun"
    asked = await until(world, lambda m: (m["status"].get("conditions") or []) != [])
    assert asked["status"]["conditions"][0]["type"] == "migrationAbortRequested"
    await state(world, completed=True, failed=True, abortStatus="Succeeded", endTimestamp=STAMP)
    informer = Informer(world.client, MIGRATIONS)
    await informer.start()
    await informer.wait_until(lambda i: i.get(NAMESPACE, "move") is None, 10)
    await informer.stop()


async def test_one_whose_object_is_taken_away_by_force_is_given_up(world: World) -> None:
    await runs(world)
    made = await world.client.create(MIGRATIONS, migration())
    await world.run_pod(await target(world), "n2")
    await world.vmi("m", lambda v: v["status"].get("migrationState"))
    await until(world, lambda m: phase(m) == "PreparingTarget")
    await world.change(MIGRATIONS, made["metadata"]["name"], metadata={"finalizers": None})
    await world.client.delete(MIGRATIONS, "move", NAMESPACE)
    vmi = await world.vmi("m", lambda v: v["status"]["migrationState"].get("failed"))
    assert vmi["status"]["nodeName"] == "n1"


async def test_a_second_migration_waits_for_the_first(world: World) -> None:
    await runs(world)
    await world.client.create(MIGRATIONS, migration("first"))
    await until(world, lambda m: phase(m) == "Scheduling", "first")
    await world.client.create(MIGRATIONS, migration("second"))
    await until(world, lambda m: phase(m) == "Pending", "second")
    await world.run_pod(await target(world), "n2")
    await world.vmi("m", lambda v: v["status"].get("migrationState"))
    assert phase(await world.client.get(MIGRATIONS, "second", NAMESPACE)) == "Pending"


async def test_a_drained_node_has_its_machine_moved(world: World) -> None:
    await world.create_vmi(
        spec={"evictionStrategy": "LiveMigrate", "domain": {"devices": {}, "memory": {"guest": "64Mi"}}}
    )
    await world.running()
    await world.vmi_status("m", conditions=[READY, MOVABLE], evacuationNodeName="n1")
    recorder = EventRecorder(world.client, "test")
    async with Informer(world.client, MIGRATIONS) as migrations:
        migrations.add_index(VMI_INDEX, lambda one: [f"{NAMESPACE}/{one['spec']['vmiName']}"])
        made = {"vmis": world.vmis, "migrations": migrations, "settings": dict}
        drained = EvacuationController(world.client, recorder, **made)
        await drained.reconcile((NAMESPACE, "m"))
        (one,) = await world.client.list(MIGRATIONS, NAMESPACE)
        await drained.reconcile((NAMESPACE, "m"))
        assert len(await world.client.list(MIGRATIONS, NAMESPACE)) == 1, "one at a time"
    assert one["metadata"]["annotations"] == {"kubevirt.io/evacuationMigration": "n1"}
    assert one["spec"] == {"vmiName": "m"}
    await target(world)


@pytest.mark.parametrize(
    ("wanted", "spec", "configured", "status"),
    [
        (True, {"evictionStrategy": "LiveMigrate"}, "", {}),
        (True, {"evictionStrategy": "LiveMigrateIfPossible"}, "", {}),
        (True, {}, "LiveMigrate", {}),
        (False, {"evictionStrategy": "External"}, "LiveMigrate", {}),
        (False, {"evictionStrategy": "None"}, "LiveMigrate", {}),
        (False, {"evictionStrategy": "LiveMigrate"}, "", {"evacuationNodeName": "n2"}),
        (False, {"evictionStrategy": "LiveMigrate"}, "", {"phase": "Succeeded"}),
        (False, {"evictionStrategy": "LiveMigrate"}, "", {"conditions": [{**MOVABLE, "status": "False"}]}),
    ],
)
def test_who_leaves_a_node_that_is_drained(wanted: bool, spec: Obj, configured: str, status: Obj) -> None:
    told = {"phase": "Running", "nodeName": "n1", "evacuationNodeName": "n1", "conditions": [MOVABLE], **status}
    assert leaves({"metadata": {}, "spec": spec, "status": told}, configured) is wanted


def test_settings_are_those_of_the_configuration_and_kubevirts_defaults() -> None:
    found = migration_status.settings({"migrations": {"bandwidthPerMigration": "64Mi", "progressTimeout": None}})
    assert found["bandwidthPerMigration"] == "64Mi"
    assert found["progressTimeout"] == 150
    assert found["parallelMigrationsPerCluster"] == 5
    assert "maxDowntimeMs" not in found


def test_which_pod_is_the_machines() -> None:
    old: Obj = {"metadata": {"uid": "a", "labels": {}}, "spec": {"nodeName": "n1"}}
    new: Obj = {"metadata": {"uid": "b", "labels": {JOB_LABEL: "j"}}, "spec": {"nodeName": "n2"}}
    vmi: Obj = {"status": {"nodeName": "n1", "activePods": {"a": "n1", "b": "n2"}}}
    assert (runs_in(old, vmi), runs_in(new, vmi)) == (True, False)
    vmi["status"]["nodeName"] = "n2"
    assert (runs_in(old, vmi), runs_in(new, vmi)) == (False, True)
    del vmi["status"]["activePods"]["a"]
    assert (runs_in(old, vmi), runs_in(new, vmi)) == (False, True)
    assert runs_in(old, {"status": {}}), "one that is not recorded yet"


def test_a_target_needs_the_cpu_that_the_guest_sees() -> None:
    labels = {
        "host-model-cpu.node.kubevirt.io/Haswell": "true",
        "host-model-required-features.node.kubevirt.io/pcid": "true",
        "cpu-feature.node.kubevirt.io/avx": "true",
    }
    vmi: Obj = {"spec": {"domain": {"cpu": {}}}}
    assert cpu_of(vmi, labels) == {
        "cpu-model-migration.node.kubevirt.io/Haswell": "true",
        "cpu-feature.node.kubevirt.io/pcid": "true",
    }
    vmi["spec"]["domain"]["cpu"]["model"] = "host-passthrough"
    assert cpu_of(vmi, labels) == {"host-model-cpu.node.kubevirt.io/Haswell": "true"}
    vmi["spec"]["domain"]["cpu"]["model"] = "Nehalem"
    assert cpu_of(vmi, labels) == {}


def test_what_is_written_is_the_objects_own() -> None:
    vmi: Obj = {"metadata": {}, "status": {"migrationState": {"migrationUid": "j"}}}
    before = copy.deepcopy(vmi)
    migration_status.give_up(vmi, "why", AT)
    assert vmi["status"]["migrationState"] == {
        **before["status"]["migrationState"],
        "completed": True,
        "failed": True,
        "failureReason": "why",
        "endTimestamp": "2026-01-01T00:00:00Z",
    }
