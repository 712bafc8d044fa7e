from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from polyvisor.api.resources import EVENTS, NODES, PODS
from polyvisor.kube import Informer, KubeClient
from polyvisor.standalone.scheduler import run_scheduler
from polyvisor.standalone.scheduling import advice, preference, requests_of, room, selects, summary, why_not
from tests.cluster import running

Obj = dict[str, Any]
NAMESPACE = "default"
ROOMY = {"cpu": "2", "memory": "1Gi", "pods": "10"}


def node(name: str = "n", labels: Obj | None = None, allocatable: Obj | None = None, **spec: Any) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": spec,
        "status": {"allocatable": allocatable or ROOMY, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def pod(name: str = "p", requests: Obj | None = None, **spec: Any) -> Obj:
    container = {"name": "c", "image": "i", "resources": {"requests": requests or {}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"containers": [container], **spec},
    }


def affinity(*terms: Obj) -> Obj:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


def term(key: str, operator: str, *values: str) -> Obj:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("operator", "values", "label", "fits"),
    [
        ("In", ["a", "b"], "b", True),
        ("In", ["a"], "b", False),
        ("In", ["a"], None, False),
        ("NotIn", ["a"], "b", True),
        ("NotIn", ["a"], "a", False),
        ("NotIn", ["a"], None, True),
        ("Exists", [], "x", True),
        ("Exists", [], None, False),
        ("DoesNotExist", [], None, True),
        ("DoesNotExist", [], "x", False),
        ("Gt", ["4"], "5", True),
        ("Gt", ["5"], "5", False),
        ("Gt", ["4"], "many", False),
        ("Lt", ["5"], "4", True),
        ("Lt", ["5"], None, False),
        ("Odd", ["5"], "5", False),
    ],
)
def test_affinity_operators(operator: str, values: list[str], label: str | None, fits: bool) -> None:
    wanted = pod(affinity=affinity(term("k", operator, *values)))
    assert selects(wanted, node(labels={"k": label} if label else {})) is fits


def test_terms_are_alternatives_and_expressions_are_not() -> None:
    one, two = term("a", "Exists"), term("b", "Exists")
    both = {"matchExpressions": one["matchExpressions"] + two["matchExpressions"]}
    only_b = node(labels={"b": "1"})
    assert selects(pod(affinity=affinity(one, two)), only_b)
    assert not selects(pod(affinity=affinity(both)), only_b)
    assert not selects(pod(affinity=affinity({})), only_b)
    assert not selects(pod(affinity=affinity()), only_b)
    by_name = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}
    assert selects(pod(affinity=affinity(by_name)), only_b)


def test_preferred_terms_are_weighed() -> None:
    preferred = [{"weight": 5, "preference": term("a", "Exists")}, {"weight": 7, "preference": term("b", "Exists")}]
    wanted = pod(affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}})
    assert preference(wanted, node(labels={"a": "1", "b": "1"})) == 12
    assert preference(wanted, node()) == 0


TAINT = {"key": "k", "value": "v", "effect": "NoSchedule"}
SOFT = {"key": "k", "effect": "PreferNoSchedule"}


@pytest.mark.parametrize(
    ("on_node", "on_pod", "reason"),
    [
        (node(), pod(), ""),
        (node(labels={"z": "1"}), pod(nodeSelector={"z": "1"}), ""),
        (node(labels={"z": "2"}), pod(nodeSelector={"z": "1"}), "didn't match"),
        (node(unschedulable=True), pod(), "unschedulable"),
        (
            node(unschedulable=True),
            pod(tolerations=[{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]),
            "",
        ),
        (node(taints=[TAINT]), pod(), "untolerated taint {k: v}"),
        (node(taints=[SOFT]), pod(), ""),
        (node(taints=[TAINT]), pod(tolerations=[{"key": "k", "value": "v"}]), ""),
        (node(taints=[TAINT]), pod(tolerations=[{"key": "k", "value": "w"}]), "taint"),
        (node(taints=[TAINT]), pod(tolerations=[{"key": "k", "operator": "Exists", "effect": "NoExecute"}]), "taint"),
        (node(taints=[TAINT]), pod(tolerations=[{"operator": "Exists"}]), ""),
        (node(), pod(requests={"cpu": "2"}), ""),
        (node(), pod(requests={"cpu": "2001m"}), "Insufficient cpu"),
        (node(), pod(requests={"memory": "1Gi"}), ""),
        (node(), pod(requests={"memory": "1025Mi"}), "Insufficient memory"),
        (node(), pod(requests={"example.com/card": "1"}), "Insufficient example.com/card"),
        (node(allocatable={"pods": "0"}), pod(), "Too many pods"),
        (node() | {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}, pod(), "not ready"),
    ],
)
def test_fit(on_node: Obj, on_pod: Obj, reason: str) -> None:
    why = why_not(on_pod, on_node, room(on_node, []))
    assert bool(why) == bool(reason), why
    assert not reason or reason in why[0]


def test_bound_pods_take_room_and_finished_ones_give_it_back() -> None:
    big = pod(requests={"memory": "600Mi"})
    assert why_not(big, node(), room(node(), [big])) == ["Insufficient memory"]
    assert why_not(big, node(), room(node(), [big | {"status": {"phase": "Succeeded"}}])) == []


def test_init_containers_count_by_their_largest() -> None:
    wanted = pod(requests={"memory": "10Mi"})
    wanted["spec"]["initContainers"] = [{"resources": {"requests": {"memory": size}}} for size in ("30Mi", "20Mi")]
    assert requests_of(wanted)["memory"] == 30 * 1024 * 1024


def test_huge_pages_that_lack_are_counted_and_the_way_to_have_them_told() -> None:
    here = node(allocatable={**ROOMY, "hugepages-2Mi": "16Mi"})
    taken = pod("before", {"hugepages-2Mi": "8Mi"})
    wanting = pod(requests={"hugepages-2Mi": "64Mi"})
    left = room(here, [taken])
    assert why_not(wanting, here, left) == ["Insufficient hugepages-2Mi"]
    assert advice(wanting, here, left) == (
        "Node n has 8 huge pages of 2Mi, and 28 more are wanted; set them aside by: "
        "echo 36 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages (seen within a minute)"
    )
    assert advice(pod(requests={"hugepages-2Mi": "8Mi"}), here, left) == ""
    assert advice(pod(requests={"memory": "64Gi"}), here, left) == ""


def test_the_summary_counts_the_reasons() -> None:
    assert summary([["Insufficient memory"], ["Insufficient memory", "Insufficient cpu"]]) == (
        "0/2 nodes are available: 1 Insufficient cpu, 2 Insufficient memory."
    )
    assert summary([]) == "0/0 nodes are available: there are none."


@dataclass
class World:
    client: KubeClient
    pods: Informer

    async def bound(self, name: str) -> str:
        def look(informer: Informer) -> str:
            found = informer.get(NAMESPACE, name) or {}
            return str((found.get("spec") or {}).get("nodeName") or "")

        return await self.pods.wait_until(look, 10)

    async def refused(self, name: str) -> Obj:
        def look(informer: Informer) -> Obj:
            status = (informer.get(NAMESPACE, name) or {}).get("status") or {}
            return next((c for c in status.get("conditions") or [] if c["type"] == "PodScheduled"), {})

        return await self.pods.wait_until(look, 10)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as client:
        ready = asyncio.Event()
        scheduler = asyncio.create_task(run_scheduler(client, ready=ready))
        await asyncio.wait_for(ready.wait(), 10)
        async with Informer(client, PODS) as pods:
            yield World(client, pods)
        scheduler.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await scheduler


async def test_a_pod_is_bound_to_the_node_that_fits(world: World) -> None:
    await world.client.create(NODES, node("a", {"zone": "a"}))
    await world.client.create(NODES, node("b", {"zone": "b"}))
    await world.client.create(PODS, pod("p", nodeSelector={"zone": "b"}))
    assert await world.bound("p") == "b"


async def test_a_pod_without_a_node_is_told_so_and_bound_when_one_comes(world: World) -> None:
    await world.client.create(PODS, pod("p"))
    condition = await world.refused("p")
    assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
    async with Informer(world.client, EVENTS) as events:
        found = await events.wait_until(lambda i: [e for e in i.items() if e["reason"] == "FailedScheduling"], 10)
    assert found[0]["message"] == condition["message"]
    await world.client.create(NODES, node("a"))
    assert await world.bound("p") == "a"


async def test_room_that_is_given_back_is_used(world: World) -> None:
    await world.client.create(NODES, node("a"))
    await world.client.create(PODS, pod("first", {"memory": "800Mi"}))
    assert await world.bound("first") == "a"
    await world.client.create(PODS, pod("second", {"memory": "800Mi"}))
    assert "Insufficient memory" in (await world.refused("second"))["message"]
    await world.client.delete(PODS, "first", NAMESPACE, grace_period_seconds=0)
    assert await world.bound("second") == "a"


async def test_a_node_that_is_uncordoned_is_used(world: World) -> None:
    await world.client.create(NODES, node("a", unschedulable=True))
    await world.client.create(PODS, pod("p"))
    await world.refused("p")
    await world.client.patch(NODES, "a", {"spec": {"unschedulable": None}})
    assert await world.bound("p") == "a"


async def test_many_pods_never_overfill_a_node(world: World) -> None:
    for name in ("a", "b"):
        await world.client.create(NODES, node(name))
    await asyncio.gather(*(world.client.create(PODS, pod(f"p{n}", {"memory": "300Mi"})) for n in range(8)))
    await world.pods.wait_until(
        lambda i: (
            len([p for p in i.items() if p["spec"].get("nodeName") or (p.get("status") or {}).get("conditions")]) == 8
        ),
        10,
    )
    placed = [p["spec"].get("nodeName") for p in await world.client.list(PODS, NAMESPACE)]
    assert {name: placed.count(name) for name in ("a", "b", None)} == {"a": 3, "b": 3, None: 2}


async def test_a_pod_for_another_scheduler_is_left_alone(world: World) -> None:
    await world.client.create(NODES, node("a"))
    await world.client.create(PODS, pod("theirs", schedulerName="other"))
    await world.client.create(PODS, pod("ours"))
    assert await world.bound("ours") == "a"
    theirs = await world.client.get(PODS, "theirs", NAMESPACE)
    assert not theirs["spec"].get("nodeName")
