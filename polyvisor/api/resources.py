"""The table of resource kinds: one list for the API server, the client, the command line and the CRD manifests.

Columns follow ``kubectl get``; a column with priority 1 shows only with ``-o wide``. Paths are the JSONPath subset
that Kubernetes allows for printer columns.
"""

from __future__ import annotations

from polyvisor.api.derived_kinds import AGE as AGE
from polyvisor.api.derived_kinds import CLONES as CLONES
from polyvisor.api.derived_kinds import POOLS as POOLS
from polyvisor.api.derived_kinds import RESTORES as RESTORES
from polyvisor.api.derived_kinds import SCALED
from polyvisor.api.derived_kinds import SNAPSHOT_CONTENTS as SNAPSHOT_CONTENTS
from polyvisor.api.derived_kinds import SNAPSHOTS as SNAPSHOTS
from polyvisor.api.resource import Column as Column
from polyvisor.api.resource import Resource as Resource

GROUP = "kubevirt.io"
INSTANCETYPE_GROUP = "instancetype.kubevirt.io"
ENDPOINT_GROUP = "hypervisor.kubevirt.io"
SUBRESOURCES_GROUP = "subresources.kubevirt.io"
SUBRESOURCES_VERSIONS = ("v1", "v1alpha3")


def _condition(of: str) -> str:
    return f".status.conditions[?(@.type=='{of}')].status"


VMIS = Resource(
    GROUP,
    "v1",
    "virtualmachineinstances",
    "VirtualMachineInstance",
    "virtualmachineinstance",
    ("vmi", "vmis"),
    columns=(
        AGE,
        Column("Phase", ".status.phase"),
        Column("IP", ".status.interfaces[0].ipAddress"),
        Column("NodeName", ".status.nodeName"),
        Column("Ready", _condition("Ready")),
        Column("Hypervisor", ".status.hypervisor.driver", priority=1),
        Column("Live-Migratable", _condition("LiveMigratable"), priority=1),
        Column("Paused", _condition("Paused"), priority=1),
    ),
    categories=("all",),
    custom=True,
    also_served=("v1alpha3",),
)
"""Without a status subresource, as KubeVirt has it: its status is written with the object."""
VMS = Resource(
    GROUP,
    "v1",
    "virtualmachines",
    "VirtualMachine",
    "virtualmachine",
    ("vm", "vms"),
    subresources=("status",),
    columns=(AGE, Column("Status", ".status.printableStatus"), Column("Ready", _condition("Ready"))),
    categories=("all",),
    custom=True,
    also_served=("v1alpha3",),
)
REPLICA_SETS = Resource(
    GROUP,
    "v1",
    "virtualmachineinstancereplicasets",
    "VirtualMachineInstanceReplicaSet",
    "virtualmachineinstancereplicaset",
    ("vmirs", "vmirss"),
    subresources=("status", "scale"),
    columns=SCALED,
    categories=("all",),
    custom=True,
    also_served=("v1alpha3",),
)

MIGRATIONS = Resource(
    GROUP,
    "v1",
    "virtualmachineinstancemigrations",
    "VirtualMachineInstanceMigration",
    "virtualmachineinstancemigration",
    ("vmim", "vmims"),
    subresources=("status",),
    columns=(Column("Phase", ".status.phase"), Column("VMI", ".spec.vmiName"), AGE),
    categories=("all",),
    custom=True,
    also_served=("v1alpha3",),
)


def _instancetype(kind: str, *short_names: str, namespaced: bool) -> Resource:
    return Resource(
        INSTANCETYPE_GROUP,
        "v1beta1",
        f"{kind.lower()}s",
        kind,
        kind.lower(),
        short_names,
        namespaced=namespaced,
        columns=(AGE,),
        categories=("all",) if namespaced else (),
        custom=True,
    )


INSTANCETYPES = _instancetype(
    "VirtualMachineInstancetype", "vminstancetype", "vminstancetypes", "vmf", "vmfs", namespaced=True
)
CLUSTER_INSTANCETYPES = _instancetype(
    "VirtualMachineClusterInstancetype",
    *("vmclusterinstancetype", "vmclusterinstancetypes", "vmcf", "vmcfs"),
    namespaced=False,
)
PREFERENCES = _instancetype("VirtualMachinePreference", "vmpref", "vmprefs", "vmp", "vmps", namespaced=True)
CLUSTER_PREFERENCES = _instancetype("VirtualMachineClusterPreference", "vmcp", "vmcps", namespaced=False)
ENDPOINTS = Resource(
    ENDPOINT_GROUP,
    *("v1alpha1", "hypervisorendpoints", "HypervisorEndpoint", "hypervisorendpoint", ("hep", "heps")),
    namespaced=False,
    subresources=("status",),
    columns=(
        Column("URI", ".spec.uri"),
        Column("Driver", ".status.driver"),
        Column("Ready", _condition("Ready")),
        Column("Reason", ".status.conditions[?(@.type=='Ready')].reason"),
        Column("Managed", ".status.domains.managed", "integer"),
        Column("Foreign", ".status.domains.foreign", "integer"),
        AGE,
        Column("Message", ".status.conditions[?(@.type=='Ready')].message", priority=1),
    ),
    custom=True,
)
KUBEVIRTS = Resource(
    GROUP,
    "v1",
    "kubevirts",
    "KubeVirt",
    "kubevirt",
    ("kv", "kvs"),
    subresources=("status",),
    columns=(AGE, Column("Phase", ".status.phase")),
    categories=("all",),
    custom=True,
    also_served=("v1alpha3",),
)
PODS = Resource(
    "",
    "v1",
    "pods",
    "Pod",
    "pod",
    ("po",),
    subresources=("status", "binding", "eviction", "log"),
    columns=(
        Column("Ready", ".status.containerStatuses[*].ready"),
        Column("Status", ".status.phase"),
        Column("Restarts", ".status.containerStatuses[0].restartCount", "integer"),
        AGE,
        Column("IP", ".status.podIP", priority=1),
        Column("Node", ".spec.nodeName", priority=1),
    ),
    categories=("all",),
)
NODES = Resource(
    "",
    "v1",
    "nodes",
    "Node",
    "node",
    ("no",),
    namespaced=False,
    subresources=("status",),
    columns=(
        Column("Status", _condition("Ready")),
        AGE,
        Column("Version", ".status.nodeInfo.kubeletVersion"),
        Column("Internal-IP", ".status.addresses[?(@.type=='InternalIP')].address", priority=1),
        Column("OS-Image", ".status.nodeInfo.osImage", priority=1),
        Column("Kernel-Version", ".status.nodeInfo.kernelVersion", priority=1),
    ),
)
NAMESPACES = Resource(
    "",
    "v1",
    "namespaces",
    "Namespace",
    "namespace",
    ("ns",),
    namespaced=False,
    subresources=("status", "finalize"),
    columns=(Column("Status", ".status.phase"), AGE),
)
SECRETS = Resource("", "v1", "secrets", "Secret", "secret", columns=(Column("Type", ".type"), AGE))
CONFIGMAPS = Resource("", "v1", "configmaps", "ConfigMap", "configmap", ("cm",), columns=(AGE,))
EVENTS = Resource(
    "",
    "v1",
    "events",
    "Event",
    "event",
    ("ev",),
    columns=(
        Column("Last Seen", ".lastTimestamp", "date"),
        Column("Type", ".type"),
        Column("Reason", ".reason"),
        Column("Kind", ".involvedObject.kind"),
        Column("Object", ".involvedObject.name"),
        Column("Message", ".message"),
        Column("Count", ".count", "integer", priority=1),
    ),
)
LEASES = Resource(
    "coordination.k8s.io",
    "v1",
    "leases",
    "Lease",
    "lease",
    columns=(Column("Holder", ".spec.holderIdentity"), AGE),
)
CONTROLLER_REVISIONS = Resource(
    "apps",
    "v1",
    "controllerrevisions",
    "ControllerRevision",
    "controllerrevision",
    columns=(
        Column("Controller", ".metadata.ownerReferences[0].name"),
        Column("Revision", ".revision", "integer"),
        AGE,
    ),
)
PVCS = Resource(
    "",
    "v1",
    "persistentvolumeclaims",
    "PersistentVolumeClaim",
    "persistentvolumeclaim",
    ("pvc",),
    subresources=("status",),
    columns=(
        Column("Status", ".status.phase"),
        Column("Volume", ".spec.volumeName"),
        Column("Capacity", ".status.capacity.storage"),
        Column("Access Modes", ".status.accessModes[*]"),
        Column("StorageClass", ".spec.storageClassName"),
        AGE,
    ),
)
CDI_GROUP = "cdi.kubevirt.io"
DATAVOLUMES = Resource(
    CDI_GROUP,
    "v1beta1",
    "datavolumes",
    "DataVolume",
    "datavolume",
    ("dv", "dvs"),
    subresources=("status",),
    columns=(
        Column("Phase", ".status.phase"),
        Column("Progress", ".status.progress"),
        Column("Restarts", ".status.restartCount", "integer"),
        AGE,
    ),
    categories=("all",),
)
"""Of CDI, which brings it into a cluster; standalone mode does CDI's part itself."""
CDICONFIGS = Resource(
    CDI_GROUP, "v1beta1", "cdiconfigs", "CDIConfig", "cdiconfig", namespaced=False, subresources=("status",)
)
NETWORK_ATTACHMENTS = Resource(
    "k8s.cni.cncf.io",
    "v1",
    "network-attachment-definitions",
    "NetworkAttachmentDefinition",
    "network-attachment-definition",
    ("net-attach-def",),
    columns=(AGE,),
)
"""Those of Multus, of which a cluster has its own; a standalone installation serves them itself."""
CRDS = Resource(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    "customresourcedefinition",
    ("crd", "crds"),
    namespaced=False,
    subresources=("status",),
    columns=(Column("Created At", ".metadata.creationTimestamp", "date"),),
)


def _refused(
    group: str,
    kind: str,
    version: str,
    instead: str,
    *,
    also_served: tuple[str, ...] = (),
    short: str = "",
    namespaced: bool = True,
) -> Resource:
    plural = f"{kind.lower()}s" if not kind.endswith("y") else f"{kind.lower()[:-1]}ies"
    return Resource(
        group,
        version,
        plural,
        kind,
        kind.lower(),
        (short, f"{short}s") if short else (),
        namespaced=namespaced,
        subresources=("status",),
        columns=(AGE,),
        custom=True,
        also_served=also_served,
        refused=instead,
    )


_COPY = "shut the machine down and copy its volume"
REFUSED: tuple[Resource, ...] = (
    _refused(
        "migrations.kubevirt.io",
        "MigrationPolicy",
        "v1alpha1",
        "set the limits of migrations in spec.configuration.migrations of the KubeVirt object",
        namespaced=False,
    ),
    *(
        _refused("backup.kubevirt.io", kind, "v1alpha1", _COPY, short=short)
        for kind, short in (("VirtualMachineBackup", "vmbackup"), ("VirtualMachineBackupTracker", "vmbackuptracker"))
    ),
    _refused("export.kubevirt.io", "VirtualMachineExport", "v1", _COPY, also_served=("v1beta1",), short="vmexport"),
)
"""KubeVirt's kinds that Polyvisor knows by name: they can be listed, so that clients find what they ask for, and
making one is refused with a word on what to do instead."""

RESOURCES: tuple[Resource, ...] = (
    VMIS,
    VMS,
    REPLICA_SETS,
    POOLS,
    SNAPSHOTS,
    SNAPSHOT_CONTENTS,
    RESTORES,
    CLONES,
    MIGRATIONS,
    INSTANCETYPES,
    CLUSTER_INSTANCETYPES,
    PREFERENCES,
    CLUSTER_PREFERENCES,
    ENDPOINTS,
    KUBEVIRTS,
    PODS,
    NODES,
    NAMESPACES,
    SECRETS,
    CONFIGMAPS,
    EVENTS,
    LEASES,
    CONTROLLER_REVISIONS,
    PVCS,
    DATAVOLUMES,
    CDICONFIGS,
    NETWORK_ATTACHMENTS,
    CRDS,
    *REFUSED,
)


def by_kind(api_version: str, kind: str) -> Resource | None:
    """Return the resource of an object's ``apiVersion`` and ``kind``."""
    return next((r for r in RESOURCES if r.kind == kind and r.api_version == api_version), None)


def find(word: str) -> Resource | None:
    """Return the resource that a user means by ``vm``, ``virtualmachines``, ``vms.kubevirt.io`` or a kind."""
    name, _, group = word.lower().partition(".")
    for resource in RESOURCES:
        if group and group != resource.group:
            continue
        if name in (resource.plural, resource.singular, resource.kind.lower(), *resource.short_names):
            return resource
    return None
