"""Static volumes and their claims, against a real API server."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from polyvisor.api.cluster_resources import PVS
from polyvisor.api.resources import EVENTS, PVCS, VMIS, Resource
from polyvisor.kube import Informer, KubeClient
from polyvisor.kube.tasks import end_task
from polyvisor.standalone.volume_binder import match, mismatch, run_binder
from tests.cluster import running
from tests.standalone.apiserver.test_volumes import VOLUME

Obj = dict[str, Any]


def claim(name: str = "web", volume: str = "web-vda", size: str = "10Gi", **spec: Any) -> Obj:
    named = {"volumeName": volume} if volume else {}
    wanted = {"accessModes": ["ReadWriteOnce"], "volumeMode": "Block", "storageClassName": "fast"}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {**wanted, **named, "resources": {"requests": {"storage": size}}, **spec},
    }


class Cluster:
    """Clients of the server, and copies that can be awaited."""

    def __init__(self, client: KubeClient) -> None:
        self.client = client
        self.volumes, self.claims = Informer(client, PVS), Informer(client, PVCS)

    async def volume(self, phase: str) -> Obj:
        found = await self.volumes.wait_until(lambda all_: _in_phase(all_.get(None, "web-vda"), phase))
        assert found
        return found

    async def claim(self, phase: str, name: str = "web") -> Obj:
        found = await self.claims.wait_until(lambda all_: _in_phase(all_.get("default", name), phase))
        assert found
        return found

    async def gone(self, informer: Informer, namespace: str | None, name: str) -> None:
        await informer.wait_until(lambda all_: all_.get(namespace, name) is None)

    async def create(self, resource: Resource, obj: Obj) -> Obj:
        return await self.client.create(resource, copy.deepcopy(obj))


def _in_phase(obj: Obj | None, phase: str) -> Obj | None:
    return obj if obj is not None and (obj.get("status") or {}).get("phase") == phase else None


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with running(tmp_path) as client:
        found = Cluster(client)
        async with found.volumes, found.claims:
            binder = asyncio.create_task(run_binder(client))
            yield found
            await end_task(binder)


async def test_a_volume_waits_for_its_claim_and_is_bound_to_it(cluster: Cluster) -> None:
    await cluster.create(PVS, VOLUME)
    await cluster.volume("Available")
    made = await cluster.create(PVCS, claim(volume=""))
    bound = await cluster.claim("Bound")
    assert bound["spec"]["volumeName"] == "web-vda"
    assert bound["status"]["capacity"] == {"storage": "10Gi"}
    assert bound["status"]["accessModes"] == ["ReadWriteOnce", "ReadOnlyMany"]
    assert (await cluster.volume("Bound"))["spec"]["claimRef"]["uid"] == made["metadata"]["uid"]


async def test_a_claim_that_names_its_volume_waits_for_it(cluster: Cluster) -> None:
    await cluster.create(PVCS, claim())
    await cluster.create(PVS, {**VOLUME, "spec": {**VOLUME["spec"], "claimRef": None}})
    await cluster.claim("Bound")
    assert (await cluster.volume("Bound"))["spec"]["claimRef"]["name"] == "web"


async def test_the_disk_of_a_deleted_claim_goes_to_nobody_else(cluster: Cluster) -> None:
    await cluster.create(PVS, VOLUME)
    await cluster.create(PVCS, claim())
    await cluster.claim("Bound")
    await cluster.client.delete(PVCS, "web", "default")
    await cluster.volume("Released")
    await cluster.create(PVCS, claim())
    assert (await cluster.claims.wait_until(lambda all_: all_.get("default", "web")))["status"]["phase"] == "Pending"
    await cluster.client.delete(PVS, "web-vda")
    await cluster.gone(cluster.volumes, None, "web-vda")


async def test_a_claim_that_does_not_fit_is_told_why(cluster: Cluster) -> None:
    await cluster.create(PVS, VOLUME)
    async with Informer(cluster.client, EVENTS) as events:
        await cluster.create(PVCS, claim(size="20Gi"))
        said = await events.wait_until(lambda all_: [e["message"] for e in all_.items() if e["type"] == "Warning"])
    assert said == ["Cannot bind to requested volume 'web-vda': the volume has 10Gi, and the claim requests 20Gi"]
    await cluster.volume("Available")


async def test_what_is_in_use_stays_until_it_is_not(cluster: Cluster) -> None:
    await cluster.create(PVS, VOLUME)
    await cluster.create(PVCS, claim())
    await cluster.claim("Bound")
    volumes = [{"name": "a", "persistentVolumeClaim": {"claimName": "web"}}]
    metadata = {"name": "user", "namespace": "default"}
    memory = {"memory": {"guest": "64Mi"}, "devices": {"disks": [{"name": "a", "disk": {}}]}}
    vmi = {"apiVersion": "kubevirt.io/v1", "kind": VMIS.kind, "metadata": metadata}
    await cluster.create(VMIS, {**vmi, "spec": {"domain": memory, "volumes": volumes}})
    await cluster.client.delete(PVS, "web-vda")
    await cluster.client.delete(PVCS, "web", "default")
    leaving = await cluster.claims.wait_until(
        lambda all_: (found := all_.get("default", "web")) and found["metadata"].get("deletionTimestamp") and found
    )
    assert leaving["status"]["phase"] == "Bound"
    late = {**VOLUME, "metadata": {"name": "late"}, "spec": {**VOLUME["spec"], "claimRef": None}}
    await cluster.create(PVS, late)
    await cluster.create(PVCS, claim("late", "late"))
    await cluster.claim("Bound", "late")  # what was to be done before it has been done
    assert cluster.claims.get("default", "web") is not None
    assert (await cluster.client.get(PVS, "web-vda"))["metadata"]["deletionTimestamp"]
    await cluster.client.delete(VMIS, "user", "default")
    await cluster.gone(cluster.claims, "default", "web")
    await cluster.gone(cluster.volumes, None, "web-vda")


async def test_a_claim_whose_volume_was_taken_away_is_lost(cluster: Cluster) -> None:
    await cluster.create(PVS, VOLUME)
    await cluster.create(PVCS, claim())
    bound = await cluster.volume("Bound")
    await cluster.claim("Bound")
    await cluster.client.delete(PVS, "web-vda")
    bound["metadata"]["finalizers"] = []
    change = {"metadata": {"finalizers": []}}
    await cluster.client.patch(PVS, "web-vda", change)
    await cluster.claim("Lost")


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({}, ""),
        ({"storageClassName": "slow"}, "storageClassName of the volume is 'fast', of the claim 'slow'"),
        ({"volumeMode": "Filesystem"}, "volumeMode of the volume is 'Block', of the claim 'Filesystem'"),
        ({"accessModes": ["ReadWriteMany"]}, "the volume does not have access mode ReadWriteMany"),
    ],
)
def test_what_has_to_fit(wanted: Obj, said: str) -> None:
    assert mismatch(VOLUME, claim(**wanted)) == said


def test_a_volume_is_for_the_claim_that_it_names_alone() -> None:
    other = {**claim(volume="other"), "metadata": {"name": "web", "namespace": "default", "uid": "1"}}
    assert match(VOLUME, other).phase == "Available"
