"""What kinds the embedded server serves: Polyvisor's own table, and what clients of virtual machines touch besides.

Services, service accounts and storage classes are objects that charts and tools create and read; on one machine nothing
acts on a Service. The workloads of Kubernetes are listed, and are always empty, because `kubectl apply --prune` and
GitOps tools list them; creating one is refused with what to do instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from polyvisor.api import cluster_resources as cluster
from polyvisor.api.resources import AGE, CDI_GROUP, CRDS, RESOURCES, Column, Resource

SERVICES = replace(
    cluster.SERVICES,
    singular="service",
    short_names=("svc",),
    categories=("all",),
    columns=(
        Column("Type", ".spec.type"),
        Column("Cluster-IP", ".spec.clusterIP"),
        Column("Port(s)", ".spec.ports[*].port"),
        AGE,
    ),
)
SERVICE_ACCOUNTS = replace(cluster.SERVICE_ACCOUNTS, singular="serviceaccount", short_names=("sa",), columns=(AGE,))
PVS = replace(
    cluster.PVS,
    singular="persistentvolume",
    short_names=("pv",),
    columns=(
        Column("Capacity", ".spec.capacity.storage"),
        Column("Access Modes", ".spec.accessModes[*]"),
        Column("Reclaim Policy", ".spec.persistentVolumeReclaimPolicy"),
        Column("Status", ".status.phase"),
        Column("Claim", ".spec.claimRef.name"),
        Column("StorageClass", ".spec.storageClassName"),
        Column("VolumeAttributesClass", ".spec.volumeAttributesClassName"),
        Column("Reason", ".status.reason"),
        AGE,
        Column("VolumeMode", ".spec.volumeMode", priority=1),
    ),
)
"""Disks on endpoints; the agent makes room on this machine for a claim without one."""
STORAGE_CLASSES = replace(
    cluster.STORAGE_CLASSES,
    singular="storageclass",
    short_names=("sc",),
    columns=(
        Column("Provisioner", ".provisioner"),
        Column("ReclaimPolicy", ".reclaimPolicy"),
        Column("VolumeBindingMode", ".volumeBindingMode"),
        AGE,
    ),
)
STORAGE_PROFILES = Resource(
    CDI_GROUP,
    "v1beta1",
    "storageprofiles",
    "StorageProfile",
    "storageprofile",
    namespaced=False,
    subresources=("status",),
    columns=(AGE,),
)
"""CDI's word of what a class of volumes can do, which tools read before they make a claim."""
VOLUME_SNAPSHOTS = replace(
    cluster.VOLUME_SNAPSHOTS,
    singular="volumesnapshot",
    short_names=("vs",),
    columns=(
        Column("ReadyToUse", ".status.readyToUse", "boolean"),
        Column("SourcePVC", ".spec.source.persistentVolumeClaimName"),
        Column("RestoreSize", ".status.restoreSize"),
        Column("SnapshotClass", ".spec.volumeSnapshotClassName"),
        Column("CreationTime", ".status.creationTime", "date"),
        AGE,
    ),
)
"""The agent makes those of class ``local``, of claims of this machine."""
VOLUME_SNAPSHOT_CLASSES = replace(
    cluster.VOLUME_SNAPSHOT_CLASSES,
    singular="volumesnapshotclass",
    short_names=("vsclass", "vsclasses"),
    columns=(Column("Driver", ".driver"), Column("DeletionPolicy", ".deletionPolicy"), AGE),
)
STORED = (
    SERVICES,
    SERVICE_ACCOUNTS,
    PVS,
    STORAGE_CLASSES,
    STORAGE_PROFILES,
    VOLUME_SNAPSHOTS,
    VOLUME_SNAPSHOT_CLASSES,
)


def _empty(group: str, kind: str, *short_names: str, plural: str = "", namespaced: bool = True) -> Resource:
    singular = kind.lower()
    return Resource(
        group, "v1", plural or f"{singular}s", kind, singular, short_names, namespaced=namespaced, columns=(AGE,)
    )


_ONLY_MACHINES = (
    "a standalone installation runs virtual machines, not containers: put the program into a VirtualMachine"
)
_NO_ROUTES = "a standalone installation routes nothing by name: `polyvisor port-forward` leads to a VM's ports"
_NO_QUOTAS = "a standalone installation has one user and enforces no quotas"
EMPTY: Mapping[Resource, str] = {
    _empty("", "Endpoints", "ep", plural="endpoints"): _NO_ROUTES,
    _empty("", "LimitRange", "limits"): _NO_QUOTAS,
    _empty("", "ReplicationController", "rc"): _ONLY_MACHINES,
    _empty("", "ResourceQuota", "quota"): _NO_QUOTAS,
    _empty("apps", "DaemonSet", "ds"): _ONLY_MACHINES,
    _empty("apps", "Deployment", "deploy"): _ONLY_MACHINES,
    _empty("apps", "ReplicaSet", "rs"): _ONLY_MACHINES,
    _empty("apps", "StatefulSet", "sts"): _ONLY_MACHINES,
    _empty("batch", "CronJob", "cj"): _ONLY_MACHINES,
    _empty("batch", "Job"): _ONLY_MACHINES,
    _empty("discovery.k8s.io", "EndpointSlice"): _NO_ROUTES,
    _empty("networking.k8s.io", "Ingress", "ing", plural="ingresses"): _NO_ROUTES,
}
"""Kinds of which there is never an object, with what to do instead of creating one."""
ADVICE: Mapping[Resource, tuple[str, ...]] = {
    SERVICES: (
        "a standalone installation routes nothing to Services: reach a VM's ports with `polyvisor port-forward`, or at "
        "the VM's own address on a network of the node (`polyvisor up --network bridge`)",
    ),
}
"""What a client is warned of when it creates an object."""
SERVED: tuple[Resource, ...] = (*RESOURCES, *STORED, *EMPTY)


def why_read_only(resource: Resource) -> str:
    """Return why no object of a kind can be written; empty if it can."""
    if resource is CRDS:
        return "the kinds are built in"
    return EMPTY.get(resource, "")
