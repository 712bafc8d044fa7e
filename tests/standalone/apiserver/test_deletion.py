"""What goes, when, and what goes with it: Pods, finalizers, dependents, namespaces."""

from __future__ import annotations

import asyncio
import time

from .conftest import CONFIGMAPS, MERGE, PODS, VMI, Obj, Running, configmap, is_status, pod, vmi


async def test_pods_leave_when_their_kubelet_says_so(server: Running) -> None:
    await server.post("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}})
    await server.post(PODS, pod("never-scheduled"))
    assert (await server.client.delete(f"{PODS}/never-scheduled")).json()["status"] == "Success"
    await server.post(PODS, pod("p"))
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"name": "n"}}
    await server.post(f"{PODS}/p/binding", binding)
    is_status(await server.client.post(f"{PODS}/p/binding", json=binding), 409, "Conflict")
    bound = (await server.client.get(f"{PODS}/p")).json()
    assert bound["spec"]["nodeName"] == "n"
    assert bound["status"]["conditions"][0]["type"] == "PodScheduled"
    before = time.time()
    marked = (await server.client.delete(f"{PODS}/p")).json()["metadata"]
    assert marked["deletionGracePeriodSeconds"] == 30
    assert marked["deletionTimestamp"] > time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(before + 25))
    shorter = (await server.client.request("DELETE", f"{PODS}/p", json={"gracePeriodSeconds": 5})).json()["metadata"]
    assert shorter["deletionGracePeriodSeconds"] == 5
    longer = (await server.client.delete(f"{PODS}/p?gracePeriodSeconds=50")).json()["metadata"]
    assert longer["deletionGracePeriodSeconds"] == 5
    await server.client.delete(f"{PODS}/p?gracePeriodSeconds=0")
    is_status(await server.client.get(f"{PODS}/p"), 404, "NotFound")
    missing = {**binding, "target": {"name": "none"}}
    await server.post(PODS, pod("q"))
    is_status(await server.client.post(f"{PODS}/q/binding", json=missing), 404, "NotFound")


async def test_delete_preconditions(server: Running) -> None:
    made = await server.post(CONFIGMAPS, configmap("a"))
    for wrong in ({"uid": "x"}, {"resourceVersion": "1"}):
        answer = await server.client.request("DELETE", f"{CONFIGMAPS}/a", json={"preconditions": wrong})
        is_status(answer, 409, "Conflict")
    right = {"uid": made["metadata"]["uid"], "resourceVersion": made["metadata"]["resourceVersion"]}
    answer = await server.client.request("DELETE", f"{CONFIGMAPS}/a", json={"preconditions": right})
    assert answer.status_code == 200
    bad = await server.client.request("DELETE", f"{CONFIGMAPS}/a", json={"propagationPolicy": "Sideways"})
    is_status(bad, 400, "BadRequest")


async def test_no_finalizer_is_added_to_the_dying(server: Running) -> None:
    await server.post(VMI, vmi("a", finalizers=["x.org/one"]))
    await server.client.delete(f"{VMI}/a")
    more = {"metadata": {"finalizers": ["x.org/one", "x.org/two"]}}
    is_status(await server.client.patch(f"{VMI}/a", json=more, headers=MERGE), 422, "Invalid")
    last = await server.client.patch(f"{VMI}/a", json={"metadata": {"finalizers": None}}, headers=MERGE)
    assert last.status_code == 200
    is_status(await server.client.get(f"{VMI}/a"), 404, "NotFound")


async def test_delete_collection_by_label(server: Running) -> None:
    await server.post(CONFIGMAPS, configmap("a", labels={"x": "1"}))
    await server.post(CONFIGMAPS, configmap("b"))
    await server.client.delete(CONFIGMAPS, params={"labelSelector": "x=1"})
    left = (await server.client.get(CONFIGMAPS)).json()["items"]
    assert [one["metadata"]["name"] for one in left] == ["b"]


def owned(name: str, *owners: tuple[str, str], block: bool = False) -> Obj:
    references = [
        {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "name": owner,
            "uid": uid,
            "blockOwnerDeletion": block,
        }
        for owner, uid in owners
    ]
    return configmap(name, ownerReferences=references)


async def test_dangling_owners(server: Running) -> None:
    owner = (await server.post(VMI, vmi("real")))["metadata"]["uid"]
    await server.post(CONFIGMAPS, owned("half", ("real", owner), ("none", "no-such-uid")))
    await server.post(CONFIGMAPS, owned("dangling", ("real", "another-uid")))
    await server.gone(f"{CONFIGMAPS}/dangling")
    async with asyncio.timeout(5):
        async with server.watch(f"{CONFIGMAPS}?watch=1") as read:
            while len((await read())["object"]["metadata"]["ownerReferences"]) != 1:
                pass


async def test_foreground_waits_for_blocking_dependents(server: Running) -> None:
    owner = (await server.post(VMI, vmi("a")))["metadata"]["uid"]
    dependent = owned("d", ("a", owner), block=True)
    dependent["metadata"]["finalizers"] = ["x.org/hold"]
    await server.post(CONFIGMAPS, dependent)
    await server.client.delete(f"{VMI}/a?propagationPolicy=Foreground")
    async with server.watch(f"{CONFIGMAPS}?watch=1") as read:
        while not (await read())["object"]["metadata"].get("deletionTimestamp"):
            pass
    held = (await server.client.get(f"{VMI}/a")).json()
    assert held["metadata"]["finalizers"] == ["foregroundDeletion"]
    await server.client.patch(f"{CONFIGMAPS}/d", json={"metadata": {"finalizers": None}}, headers=MERGE)
    await server.gone(f"{VMI}/a")


async def test_namespace_empties_first(server: Running) -> None:
    await server.post("/api/v1/namespaces", {"metadata": {"name": "team"}})
    inside = "/api/v1/namespaces/team/configmaps"
    await server.post(inside, configmap("a", finalizers=["x.org/hold"]))
    dying = (await server.client.delete("/api/v1/namespaces/team")).json()
    assert dying["status"]["phase"] == "Terminating"
    is_status(await server.client.post(inside, json=configmap("b")), 403, "Forbidden")
    await server.client.patch(f"{inside}/a", json={"metadata": {"finalizers": None}}, headers=MERGE)
    await server.gone("/api/v1/namespaces/team")
    is_status(await server.client.delete("/api/v1/namespaces/default"), 403, "Forbidden")
