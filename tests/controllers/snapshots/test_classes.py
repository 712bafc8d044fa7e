from __future__ import annotations

from typing import Any

from polyvisor.api.resources import PVCS
from polyvisor.controllers.snapshots.classes import SnapshotClasses, SnapshotSupport
from polyvisor.kube import ApiError, Informer
from tests.controllers.conftest import NAMESPACE, World

from .conftest import claim, classes, machine_spec

Obj = dict[str, Any]
NO_CLASS = "No VolumeSnapshotClass: Volume snapshots are not configured for this StorageClass"


async def test_each_volume_is_told_whether_it_can_be_snapshotted(world: World) -> None:
    await classes(world)
    await claim(world, "a")
    await claim(world, "b", storageClassName="slow")
    async with Informer(world.client, PVCS) as claims:
        support = SnapshotSupport(SnapshotClasses(world.client), claims)
        vm = {"metadata": {"namespace": NAMESPACE}, "spec": {"template": {"spec": machine_spec("a", "b", "gone")}}}
        assert await support.statuses(vm) == [
            {"name": "a", "enabled": True},
            {
                "name": "b",
                "enabled": False,
                "reason": f"{NO_CLASS} [slow] [b]",
            },
            {"name": "gone", "enabled": False, "reason": "PVC not found"},
            {
                "name": "seed",
                "enabled": False,
                "reason": "Snapshot is not supported for this volumeSource type [seed]",
            },
        ]


class Without:
    """A cluster without snapshots."""

    async def list(self, resource: Any) -> list[Obj]:
        raise ApiError(404, "NotFound", "the server could not find the requested resource")


async def test_a_cluster_without_the_kind_has_no_class() -> None:
    found = SnapshotClasses(Without())  # type: ignore[arg-type]
    await found.refresh()
    assert found.of({"spec": {"storageClassName": "fast"}}) == ""


async def test_the_default_class_stands_for_a_claim_without_one() -> None:
    class With:
        async def list(self, resource: Any) -> list[Obj]:
            if resource.kind == "StorageClass":
                default = {"storageclass.kubernetes.io/is-default-class": "true"}
                return [{"metadata": {"name": "d", "annotations": default}, "provisioner": "p"}]
            preferred = {"snapshot.storage.kubernetes.io/is-default-class": "true"}
            return [
                {"metadata": {"name": "one"}, "driver": "p"},
                {"metadata": {"name": "two", "annotations": preferred}, "driver": "p"},
            ]

    found = SnapshotClasses(With())  # type: ignore[arg-type]
    await found.refresh()
    assert found.of({"spec": {}}) == "two"
    assert found.of({"spec": {"volumeName": "made-by-hand"}}) == ""
