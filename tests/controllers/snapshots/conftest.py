from __future__ import annotations

from typing import Any

from polyvisor.api.resources import PVCS, Resource
from polyvisor.kube import ApiError
from polyvisor.standalone.apiserver.kinds import STORAGE_CLASSES, VOLUME_SNAPSHOT_CLASSES, VOLUME_SNAPSHOTS
from tests.controllers.conftest import NAMESPACE, World, instance
from tests.controllers.conftest import world as world

Obj = dict[str, Any]
DRIVER = "csi.example.org"


async def classes(world: World) -> None:
    """Make a storage class whose driver makes snapshots."""
    storage = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "fast"},
        "provisioner": DRIVER,
    }
    await world.client.create(STORAGE_CLASSES, storage)
    snapshot = {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshotClass",
        "metadata": {"name": "fast-snapshots"},
        "driver": DRIVER,
        "deletionPolicy": "Delete",
    }
    await world.client.create(VOLUME_SNAPSHOT_CLASSES, snapshot)


async def claim(world: World, name: str, **spec: Any) -> Obj:
    """Make a claim and play the driver that binds it."""
    body = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "fast",
            "resources": {"requests": {"storage": "1Gi"}},
            **spec,
        },
    }
    await world.client.create(PVCS, body)
    return await bind(world, name)


async def bind(world: World, name: str) -> Obj:
    status = {"status": {"phase": "Bound"}}
    return await world.client.patch(PVCS, name, status, NAMESPACE, subresource="status")


def machine_spec(*claims: str) -> Obj:
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims]
    return {**instance("x")["spec"], "volumes": [*volumes, {"name": "seed", "emptyDisk": {"capacity": "1Mi"}}]}


async def machine(world: World, *claims: str, name: str = "m", strategy: str = "Halted") -> Obj:
    vm = await world.create_vm(name, runStrategy=strategy)
    change = {"template": {"metadata": {"labels": {"app": name}}, "spec": machine_spec(*claims)}}
    await world.change(_vms(), name, spec=change)
    return vm


def _vms() -> Resource:
    from polyvisor.api.resources import VMS

    return VMS


async def taken(world: World, name: str, **status: Any) -> None:
    """Play the CSI driver: a VolumeSnapshot is taken."""
    told = {"creationTime": "2026-01-01T00:00:00Z", "readyToUse": True, "restoreSize": "1Gi", **status}
    await world.client.patch(VOLUME_SNAPSHOTS, name, {"status": told}, NAMESPACE, subresource="status")


async def absent(world: World, resource: Resource, name: str) -> bool:
    try:
        await world.client.get(resource, name, NAMESPACE)
    except ApiError as error:
        return error.not_found
    return False
