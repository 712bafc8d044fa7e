from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from polyvisor.api.resources import EVENTS, PODS, REPLICA_SETS, VMIS
from polyvisor.controllers.objects import condition
from polyvisor.controllers.replica_set import ReplicaSetController, _worth, status_of
from polyvisor.kube import ApiError, Informer, KubeClient
from tests.controllers.conftest import NAMESPACE, World, instance

Obj = dict[str, Any]


async def create(client: KubeClient, replicas: int = 2, **spec: Any) -> Obj:
    body = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstanceReplicaSet",
        "metadata": {"name": "web", "namespace": NAMESPACE},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": instance("x")["spec"]},
        }
        | spec,
    }
    return await client.create(REPLICA_SETS, body)


async def seen(world: World, until: Callable[[Obj], Any]) -> Obj:
    """Wait for a state of the set."""
    async with Informer(world.client, REPLICA_SETS) as sets:

        def look(i: Informer) -> Obj:
            found = i.get(NAMESPACE, "web")
            return found if found and until(found) else {}

        return await sets.wait_until(look, 10)


def counts(replicas: int, ready: int = 0) -> Callable[[Obj], bool]:
    def check(replica_set: Obj) -> bool:
        status = replica_set.get("status") or {}
        return (status.get("replicas"), status.get("readyReplicas")) == (replicas, ready)

    return check


async def members(world: World, count: int) -> list[Obj]:
    def look(i: Informer) -> list[Obj]:
        found = [v for v in i.items() if not v["metadata"].get("deletionTimestamp")]
        return found if len(found) == count else []

    return await world.vmis.wait_until(look, 10)


async def test_instances_are_made_and_owned_and_counted(world: World) -> None:
    made = await create(world.client, 3)
    vmis = await members(world, 3)
    for vmi in vmis:
        assert vmi["metadata"]["name"].startswith("web-")
        assert vmi["metadata"]["labels"] == {"app": "web"}
        (owner,) = vmi["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == (made["metadata"]["uid"], True)
    await world.running(vmis[0]["metadata"]["name"])
    found = await seen(world, counts(3, 1))
    assert found["status"]["labelSelector"] == "app=web"
    await world.event("SuccessfulCreate", "VirtualMachineInstanceReplicaSet")


async def test_scaling_down_takes_what_is_not_ready(world: World) -> None:
    await create(world.client, 3)
    vmis = await members(world, 3)
    kept = vmis[1]["metadata"]["name"]
    await world.running(kept)
    await seen(world, counts(3, 1))
    await world.change(REPLICA_SETS, "web", spec={"replicas": 1})
    await seen(world, counts(1, 1))
    (left,) = await members(world, 1)
    assert left["metadata"]["name"] == kept
    event = await world.event("SuccessfulDelete", "VirtualMachineInstanceReplicaSet")
    assert event["message"].startswith("Deleted virtual machine")


async def test_an_instance_that_is_over_is_replaced(world: World) -> None:
    await create(world.client, 1)
    (first,) = await members(world, 1)
    name = first["metadata"]["name"]
    pod = await world.running(name)
    await world.vmi_status(name, phase="Failed")
    await world.vmis.wait_until(lambda i: any(v["metadata"]["name"] != name for v in i.items()), 10)
    deleted = await world.pod(name, lambda p: p["metadata"].get("deletionTimestamp"))
    assert deleted["metadata"]["name"] == pod["metadata"]["name"]
    await world.end_pod(pod)
    await world.gone(world.vmis, name)
    await seen(world, counts(1))


async def test_a_paused_set_makes_nothing_until_it_goes_on(world: World) -> None:
    await create(world.client, 2, paused=True)
    found = await seen(world, lambda r: condition(r, "ReplicaPaused"))
    assert found["status"]["replicas"] == 0
    assert (await world.event("SuccessfulPaused"))["type"] == "Normal"
    assert world.vmis.items() == []
    await world.change(REPLICA_SETS, "web", spec={"paused": False})
    await members(world, 2)
    found = await seen(world, counts(2))
    assert condition(found, "ReplicaPaused") is None
    await world.event("SuccessfulResumed")


async def test_orphans_that_are_selected_are_taken_in_and_others_let_go(world: World) -> None:
    await world.client.create(VMIS, instance("stray", labels={"app": "web"}))
    await create(world.client, 1)
    stray = await world.vmi("stray", lambda v: v["metadata"].get("ownerReferences"))
    assert stray["metadata"]["ownerReferences"][0]["kind"] == "VirtualMachineInstanceReplicaSet"
    await seen(world, counts(1))
    await world.change(VMIS, "stray", metadata={"labels": {"app": "elsewhere"}})
    await world.vmi("stray", lambda v: not v["metadata"].get("ownerReferences"))
    await members(world, 2)
    await world.change(VMIS, "stray", metadata={"labels": {"app": "web"}})
    left = await members(world, 1)
    assert left[0]["metadata"]["ownerReferences"]


async def test_a_machine_with_another_owner_is_left_alone(world: World) -> None:
    await world.create_vm("web", runStrategy="Always")
    await world.vmi("web", lambda v: True)
    await create(world.client, 1)
    await members(world, 2)
    vm = world.vmis.get(NAMESPACE, "web")
    assert vm is not None
    assert [one["kind"] for one in vm["metadata"]["ownerReferences"]] == ["VirtualMachine"]


async def test_deletion_takes_the_instances_along(world: World) -> None:
    await create(world.client, 2)
    await members(world, 2)
    await world.client.delete(REPLICA_SETS, "web", NAMESPACE)
    await world.vmis.wait_until(lambda i: not i.items(), 10)


async def test_orphaning_leaves_them(world: World) -> None:
    await create(world.client, 2)
    await members(world, 2)
    await world.client.delete(REPLICA_SETS, "web", NAMESPACE, propagation_policy="Orphan")
    await world.vmis.wait_until(
        lambda i: len(i.items()) == 2 and not any(v["metadata"].get("ownerReferences") for v in i.items()), 10
    )


async def test_a_refused_instance_is_told_and_not_asked_for_again_and_again(world: World) -> None:
    await create(world.client, 5, template={"metadata": {"labels": {"app": "web"}, "generateName": "UP"}, "spec": {}})
    found = await seen(world, lambda r: condition(r, "ReplicaFailure"))
    failure = condition(found, "ReplicaFailure") or {}
    assert (failure["status"], failure["reason"]) == ("True", "FailedCreate")
    assert "generateName" in failure["message"]
    event = await world.event("FailedCreate", "VirtualMachineInstanceReplicaSet")
    assert event["type"] == "Warning"
    await world.change(
        REPLICA_SETS, "web", spec={"template": {"metadata": {"generateName": "ok-"}, "spec": instance("x")["spec"]}}
    )
    vmis = await members(world, 5)
    assert all(v["metadata"]["name"].startswith("ok-") for v in vmis)
    found = await seen(world, counts(5))
    assert condition(found, "ReplicaFailure") is None
    events = [e for e in await world.client.list(EVENTS, NAMESPACE) if e["reason"] == "FailedCreate"]
    assert sum(e.get("count") or 1 for e in events) == 1


def vmi(name: str, phase: str, *, ready: bool = False, hour: int = 1, **metadata: Any) -> Obj:
    return {
        "metadata": {"name": name, "uid": name, "creationTimestamp": f"2026-01-01T{hour:02}:00:00Z", **metadata},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def test_the_order_in_which_instances_are_given_up() -> None:
    given = [
        vmi("old-ready", "Running", ready=True, hour=1),
        vmi("young-ready", "Running", ready=True, hour=5),
        vmi("running", "Running", hour=2),
        vmi("scheduled", "Scheduled", hour=1),
        vmi("pending", "Pending", hour=1),
        vmi("young-pending", "Pending", hour=3),
    ]
    assert [v["metadata"]["name"] for v in sorted(given, key=_worth)] == [
        "young-pending",
        "pending",
        "scheduled",
        "running",
        "young-ready",
        "old-ready",
    ]


@pytest.mark.parametrize("paused", [False, True])
def test_status_counts_what_is_neither_over_nor_going(paused: bool) -> None:
    replica_set = {"spec": {"selector": {"matchLabels": {"a": "b"}}, "paused": paused}}
    vmis = [
        vmi("a", "Running", ready=True),
        vmi("b", "Running"),
        vmi("c", "Failed"),
        vmi("d", "Running", ready=True, deletionTimestamp="2026-01-01T00:00:00Z"),
    ]
    status = status_of(replica_set, vmis, None, datetime(2026, 1, 1, tzinfo=UTC))
    assert (status["replicas"], status["readyReplicas"], status["labelSelector"]) == (2, 1, "a=b")
    assert bool(status.get("conditions")) is paused


class Ahead:
    """An API server that has more than the local copy shows, and refuses what is made."""

    def __init__(self, present: list[Obj]) -> None:
        self.present = present
        self.created = 0
        self.statuses: list[Obj] = []

    async def list(self, resource: Any, namespace: str) -> list[Obj]:
        return self.present

    async def create(self, resource: Any, body: Obj) -> Obj:
        self.created += 1
        raise ApiError(422, "Invalid", "refused")

    async def update_status(self, resource: Any, obj: Obj) -> Obj:
        self.statuses.append(obj["status"])
        return obj


class Copy:
    """A local copy that holds one set, and none of its instances yet."""

    def __init__(self, *objects: Obj) -> None:
        self.objects = objects

    def get(self, namespace: str, name: str) -> Obj | None:
        return next((o for o in self.objects if o["metadata"]["name"] == name), None)

    def learn(self, obj: Obj) -> None:
        pass

    def items(self, namespace: str) -> list[Obj]:
        return []

    def on_change(self, handler: Any) -> None:
        pass


class Silent:
    def event(self, *words: Any) -> None:
        pass


async def reconciled(present: list[Obj], replicas: int) -> Ahead:
    spec = {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {}}}
    one = {"metadata": {"name": "web", "namespace": NAMESPACE, "uid": "set", "generation": 1}, "spec": spec}
    server = Ahead(present)
    controller = ReplicaSetController(server, Silent(), replica_sets=Copy(one), vmis=Copy())  # type: ignore[arg-type]
    await controller.reconcile((NAMESPACE, "web"))
    return server


async def test_a_copy_that_is_behind_makes_no_instance_too_many() -> None:
    owner = {"uid": "set", "controller": True, "kind": "VirtualMachineInstanceReplicaSet", "name": "web"}
    present = [vmi(name, "Running", labels={"a": "b"}, ownerReferences=[owner]) for name in ("one", "two")]
    server = await reconciled(present, 2)
    assert server.created == 0
    assert server.statuses[-1]["replicas"] == 2


async def test_what_is_refused_is_asked_for_once() -> None:
    server = await reconciled([], 100)
    assert server.created == 1
    assert server.statuses[-1]["conditions"][0]["reason"] == "FailedCreate"


async def test_an_instance_whose_pod_is_taken_away_is_replaced_at_once(world: World) -> None:
    slow = instance("x", {"terminationGracePeriodSeconds": 200})["spec"]
    await create(world.client, 2, template={"metadata": {"labels": {"app": "web"}}, "spec": slow})
    first, second = await members(world, 2)
    names = {first["metadata"]["name"], second["metadata"]["name"]}
    pod = await world.running(first["metadata"]["name"])
    await world.client.delete(PODS, pod["metadata"]["name"], NAMESPACE)
    leaving = await world.vmi(first["metadata"]["name"], lambda v: v["metadata"].get("deletionTimestamp"))
    assert leaving["status"]["phase"] == "Running"
    assert (condition(leaving, "Ready") or {})["reason"] == "PodTerminating"
    living = {vmi["metadata"]["name"] for vmi in await members(world, 2)}
    assert len(living - names) == 1
    assert second["metadata"]["name"] in living


async def test_an_instance_whose_pod_is_taken_away_before_it_runs_is_replaced(world: World) -> None:
    await create(world.client, 1)
    (first,) = await members(world, 1)
    await world.vmi(first["metadata"]["name"], lambda v: v["status"]["phase"] == "Scheduling")
    pod = await world.pod(first["metadata"]["name"])
    await world.client.delete(PODS, pod["metadata"]["name"], NAMESPACE)

    def replaced(informer: Informer) -> bool:
        return {vmi["metadata"]["name"] for vmi in informer.items()}.isdisjoint({first["metadata"]["name"]})

    await world.vmis.wait_until(lambda i: bool(i.items()) and replaced(i), 10)
