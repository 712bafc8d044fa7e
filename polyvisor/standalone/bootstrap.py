"""The objects that a cluster has before anybody makes one: its namespaces, and KubeVirt's configuration.

An object that is there already is left as it is; it may have been changed on purpose.
"""

from __future__ import annotations

from polyvisor.api import Obj, names
from polyvisor.api.resources import CDICONFIGS, KUBEVIRTS, NAMESPACES, Resource
from polyvisor.api.snapshots import LOCAL_CLASS
from polyvisor.kube.client import KubeClient
from polyvisor.kube.errors import ApiError
from polyvisor.standalone.apiserver.kinds import STORAGE_CLASSES, STORAGE_PROFILES, VOLUME_SNAPSHOT_CLASSES

STORAGE_CLASS = "local"
PROFILE = {
    "storageClass": STORAGE_CLASS,
    "provisioner": f"{names.HYPERVISOR_PREFIX}local",
    "cloneStrategy": "copy",
    "claimPropertySets": [{"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem"}],
}
"""What the class can do, as the status of CDI's StorageProfile has it."""
NAMES = ("default", "kube-system", "kube-public", "kube-node-lease", names.KUBEVIRT_NAMESPACE)


def kubevirt() -> Obj:
    """Return the configuration of a new installation: emulation is allowed, as one machine has no other to turn to."""
    return {
        "apiVersion": KUBEVIRTS.api_version,
        "kind": KUBEVIRTS.kind,
        "metadata": {"name": names.KUBEVIRT_NAME, "namespace": names.KUBEVIRT_NAMESPACE},
        "spec": {"configuration": {"developerConfiguration": {"useEmulation": True}}},
    }


def storage_class() -> Obj:
    """Return the one class of volumes: files and folders below the installation's own folder."""
    return {
        "apiVersion": STORAGE_CLASSES.api_version,
        "kind": STORAGE_CLASSES.kind,
        "metadata": {"name": STORAGE_CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": PROFILE["provisioner"],
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
        "allowVolumeExpansion": False,
    }


def snapshot_class() -> Obj:
    """Return the class of snapshots of those volumes, which are files as well."""
    return {
        "apiVersion": VOLUME_SNAPSHOT_CLASSES.api_version,
        "kind": VOLUME_SNAPSHOT_CLASSES.kind,
        "metadata": {"name": LOCAL_CLASS},
        "driver": PROFILE["provisioner"],
        "deletionPolicy": "Delete",
    }


def storage_profile() -> Obj:
    """Return CDI's object about the class, whose status is written after it."""
    kind = {"apiVersion": STORAGE_PROFILES.api_version, "kind": STORAGE_PROFILES.kind}
    return {**kind, "metadata": {"name": STORAGE_CLASS}, "spec": {}}


def imports() -> Obj:
    """Return CDI's configuration, of which the registries without TLS are read."""
    metadata = {"name": names.CDI_CONFIG_NAME}
    return {
        "apiVersion": CDICONFIGS.api_version,
        "kind": CDICONFIGS.kind,
        "metadata": metadata,
        "spec": {"insecureRegistries": []},
    }


FILESYSTEM_OVERHEAD = "0.06"
"""CDI's own default: what part of a claim its file system takes, which clients add when they make one."""


async def bootstrap(client: KubeClient, url: str = "") -> None:
    """Make what is missing; ``url`` is this API server's own, where uploads go."""
    for name in NAMES:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await _create(client, NAMESPACES, namespace)
    await _create(client, KUBEVIRTS, kubevirt())
    await _create(client, STORAGE_CLASSES, storage_class())
    await _create(client, STORAGE_PROFILES, storage_profile())
    await _create(client, VOLUME_SNAPSHOT_CLASSES, snapshot_class())
    await client.patch(STORAGE_PROFILES, STORAGE_CLASS, {"status": PROFILE}, subresource="status")
    await _create(client, CDICONFIGS, imports())
    status = {"uploadProxyURL": url, "filesystemOverhead": {"global": FILESYSTEM_OVERHEAD}}
    await client.patch(CDICONFIGS, names.CDI_CONFIG_NAME, {"status": status}, subresource="status")


async def _create(client: KubeClient, resource: Resource, obj: Obj) -> None:
    try:
        await client.create(resource, obj)
    except ApiError as error:
        if not error.already_exists:
            raise
