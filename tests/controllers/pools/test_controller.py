from __future__ import annotations

from collections.abc import Callable
from typing import Any

from polyvisor.api.pools import FINALIZER, REVISION_LABEL
from polyvisor.api.resources import CONTROLLER_REVISIONS, EVENTS, POOLS, PVCS, VMIS, VMS
from polyvisor.controllers.objects import condition
from polyvisor.kube import Informer
from tests.controllers.conftest import NAMESPACE, World, instance

Obj = dict[str, Any]


def machine(**spec: Any) -> Obj:
    inner = {"metadata": {"labels": {"app": "web"}}, "spec": instance("x")["spec"]}
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"runStrategy": "Always", "template": inner} | spec}


async def create(world: World, replicas: int = 2, **spec: Any) -> Obj:
    body = {
        "apiVersion": "pool.kubevirt.io/v1beta1",
        "kind": "VirtualMachinePool",
        "metadata": {"name": "web", "namespace": NAMESPACE},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "virtualMachineTemplate": machine(),
        }
        | spec,
    }
    return await world.client.create(POOLS, body)


async def seen(world: World, until: Callable[[Obj], Any]) -> Obj:
    async with Informer(world.client, POOLS) as pools:

        def look(i: Informer) -> Obj:
            found = i.get(NAMESPACE, "web")
            return found if found and until(found) else {}

        return await pools.wait_until(look, 10)


def counts(replicas: int, ready: int = 0) -> Callable[[Obj], bool]:
    def check(pool: Obj) -> bool:
        status = pool.get("status") or {}
        return (status.get("replicas"), status.get("readyReplicas")) == (replicas, ready)

    return check


async def members(world: World, *names: str) -> None:
    await world.vms.wait_until(lambda i: {vm["metadata"]["name"] for vm in i.items()} == set(names), 10)


async def with_memory(world: World, memory: str, **more: Any) -> None:
    """Change the pool's template."""
    changed = machine()
    changed["spec"]["template"]["spec"]["domain"]["memory"]["guest"] = memory
    await world.change(POOLS, "web", spec={"virtualMachineTemplate": changed, **more})


async def test_machines_are_made_by_index_and_counted(world: World) -> None:
    made = await create(world, 3)
    await members(world, "web-0", "web-1", "web-2")
    vm = await world.vm("web-1", lambda v: True)
    (owner,) = vm["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("VirtualMachinePool", made["metadata"]["uid"])
    assert vm["metadata"]["labels"][REVISION_LABEL] == "web-1"
    await world.running("web-0")
    found = await seen(world, counts(3, 1))
    assert found["status"]["labelSelector"] == "app=web"
    assert found["metadata"]["finalizers"] == [FINALIZER]
    assert (await world.event("SuccessfulCreate", "VirtualMachinePool"))["message"].startswith(
        "Created VM default/web-"
    )


async def test_scaling_in_takes_those_that_the_policy_puts_first(world: World) -> None:
    policy = {"proactive": {"selectionPolicy": {"sortPolicy": "DescendingOrder"}}}
    await create(world, 3, scaleInStrategy=policy)
    await members(world, "web-0", "web-1", "web-2")
    await world.change(POOLS, "web", spec={"replicas": 1})
    await members(world, "web-0")
    await seen(world, counts(1))
    assert "with uid" in (await world.event("SuccessfulDelete", "VirtualMachinePool"))["message"]


async def test_a_machine_that_was_deleted_is_made_again_by_its_name(world: World) -> None:
    await create(world, 2)
    vm = await world.vm("web-0", lambda v: True)
    await members(world, "web-0", "web-1")
    await world.client.delete(VMS, "web-0", NAMESPACE)
    await world.vm("web-0", lambda v: v["metadata"]["uid"] != vm["metadata"]["uid"])


async def test_an_opportunistic_pool_removes_nothing_itself(world: World) -> None:
    await create(world, 2, scaleInStrategy={"opportunistic": {}})
    await members(world, "web-0", "web-1")
    await world.change(POOLS, "web", spec={"replicas": 1})
    await world.change(POOLS, "web", spec={"paused": True})
    await seen(world, lambda p: condition(p, "ReplicaPaused") and counts(2)(p))
    await world.change(POOLS, "web", spec={"paused": False})
    await seen(world, lambda p: condition(p, "ReplicaPaused") is None and counts(2)(p))
    await world.client.delete(VMS, "web-1", NAMESPACE)
    await members(world, "web-0")
    await seen(world, counts(1))


async def test_claims_outlive_their_machine_where_the_state_is_kept(world: World) -> None:
    policy = {"selectionPolicy": {"sortPolicy": "DescendingOrder"}, "statePreservation": "Offline"}
    inner = machine()["spec"]["template"]
    inner["spec"]["volumes"] = [{"name": "d", "persistentVolumeClaim": {"claimName": "disk"}}]
    template = machine(template=inner)
    await create(world, 1, scaleInStrategy={"proactive": policy}, virtualMachineTemplate=template)
    vm = await world.vm("web-0", lambda v: True)
    owner = {
        "apiVersion": VMS.api_version,
        "kind": "VirtualMachine",
        "name": "web-0",
        "uid": vm["metadata"]["uid"],
        "controller": True,
    }
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    body = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "disk", "ownerReferences": [owner]},
    }
    await world.client.create(PVCS, {**body, "spec": spec}, NAMESPACE)
    await world.change(POOLS, "web", spec={"replicas": 0})
    await members(world)
    claim = await world.client.get(PVCS, "disk", NAMESPACE)
    assert not claim["metadata"].get("ownerReferences")
    assert not claim["metadata"].get("deletionTimestamp")


async def test_a_proactive_update_restarts_as_many_as_may_be_unavailable(world: World) -> None:
    await create(world, 2, maxUnavailable=1)
    for name in ("web-0", "web-1"):
        await world.running(name)
    await seen(world, counts(2, 2))
    await with_memory(world, "80Mi")
    for name in ("web-0", "web-1"):
        await world.vm(name, lambda v: v["spec"]["template"]["spec"]["domain"]["memory"]["guest"] == "80Mi")
    going = await world.vmis.wait_until(lambda i: [v for v in i.items() if v["metadata"].get("deletionTimestamp")], 10)
    assert len(going) == 1
    first = going[0]["metadata"]["name"]
    other = "web-1" if first == "web-0" else "web-0"
    before = await world.vmi(other, lambda v: True)
    assert before["metadata"]["labels"][REVISION_LABEL] == "web-1"
    await world.vmi_status(first, phase="Succeeded")
    pod = await world.pod(first, lambda p: p["metadata"].get("deletionTimestamp"))
    await world.end_pod(pod)
    await world.vmi(first, lambda v: v["metadata"]["labels"][REVISION_LABEL] == "web-2")
    held = await world.vmi(other, lambda v: True)
    assert not held["metadata"].get("deletionTimestamp")  # one is unavailable already
    await world.running(first)
    await world.vmi(other, lambda v: v["metadata"].get("deletionTimestamp"))
    assert (await world.event("SuccessfulUpdate", "VirtualMachinePool"))["message"].startswith(
        "Updated VM default/web-"
    )


async def test_an_opportunistic_update_leaves_instances_running(world: World) -> None:
    await create(world, 1, updateStrategy={"opportunistic": {}})
    await world.running("web-0")
    await seen(world, counts(1, 1))
    await with_memory(world, "80Mi")
    await world.vm("web-0", lambda v: v["metadata"]["labels"][REVISION_LABEL] == "web-2")
    vmi = await world.vmi("web-0", lambda v: True)
    assert not vmi["metadata"].get("deletionTimestamp")
    revisions = {one["metadata"]["name"] for one in await world.client.list(CONTROLLER_REVISIONS, NAMESPACE)}
    assert {"web-1", "web-2"} <= revisions  # the instance still runs by the first


async def test_scale_alone_restarts_nothing_and_old_revisions_go(world: World) -> None:
    await create(world, 1)
    await world.running("web-0")
    uid = (await world.vmi("web-0", lambda v: True))["metadata"]["uid"]
    await seen(world, counts(1, 1))
    await world.change(POOLS, "web", spec={"replicas": 2})
    await world.vm("web-1", lambda v: v["metadata"]["labels"][REVISION_LABEL] == "web-2")
    assert (await world.vmi("web-0", lambda v: True))["metadata"]["uid"] == uid


async def test_a_machine_that_is_not_selected_any_more_is_let_go(world: World) -> None:
    await create(world, 1)
    await world.vm("web-0", lambda v: True)
    await world.change(VMS, "web-0", metadata={"labels": {"app": "mine"}})
    free = await world.vm("web-0", lambda v: not v["metadata"].get("ownerReferences"))
    assert FINALIZER not in free["metadata"]["finalizers"]
    await members(world, "web-0", "web-1")


async def test_deletion_takes_the_machines_along(world: World) -> None:
    await create(world, 2)
    await members(world, "web-0", "web-1")
    await world.client.delete(POOLS, "web", NAMESPACE)
    await members(world)


async def test_orphaning_leaves_them(world: World) -> None:
    await create(world, 2)
    await members(world, "web-0", "web-1")
    await world.client.delete(POOLS, "web", NAMESPACE, propagation_policy="Orphan")
    await world.vms.wait_until(
        lambda i: all(
            not v["metadata"].get("ownerReferences") and FINALIZER not in v["metadata"]["finalizers"] for v in i.items()
        ),
        10,
    )
    await world.client.delete(VMS, "web-0", NAMESPACE)
    await members(world, "web-1")


async def test_a_refused_machine_is_told_once_and_the_rest_not_asked_for(world: World) -> None:
    template = machine(dataVolumeTemplates=[{"metadata": {"name": "x"}, "spec": {}}])
    template["metadata"]["labels"]["a b"] = "c"  # let in by a server that judges nothing
    await create(world, 5, virtualMachineTemplate=template)
    found = await seen(world, lambda p: condition(p, "ReplicaFailure"))
    failure = condition(found, "ReplicaFailure") or {}
    assert (failure["status"], failure["reason"]) == ("True", "FailedScaleOut")
    assert failure["message"].startswith("error during scale out: ")
    assert world.vms.items() == []
    await world.event("FailedCreate", "VirtualMachinePool")
    events = [e for e in await world.client.list(EVENTS, NAMESPACE) if e["reason"] == "FailedCreate"]
    assert sum(e.get("count") or 1 for e in events) == 1
    assert await world.client.list(VMIS, NAMESPACE) == []
