"""The kinds that make virtual machines or keep what they were: pools, snapshots, restores, clones."""

from __future__ import annotations

from polyvisor.api.resource import Column, Resource

AGE = Column("Age", ".metadata.creationTimestamp", "date")
SCALED = (
    Column("Desired", ".spec.replicas", "integer"),
    Column("Current", ".status.replicas", "integer"),
    Column("Ready", ".status.readyReplicas", "integer"),
    AGE,
)
POOLS = Resource(
    "pool.kubevirt.io",
    "v1beta1",
    "virtualmachinepools",
    "VirtualMachinePool",
    "virtualmachinepool",
    ("vmpool", "vmpools"),
    subresources=("status", "scale"),
    columns=SCALED,
    categories=("all",),
    custom=True,
    also_served=("v1alpha1",),
)


def _snapshot(kind: str, short: str, *columns: Column) -> Resource:
    return Resource(
        "snapshot.kubevirt.io",
        "v1beta1",
        f"{kind.lower()}s",
        kind,
        kind.lower(),
        (short, f"{short}s"),
        subresources=("status",),
        columns=columns,
        categories=("all",),
        custom=True,
        also_served=("v1alpha1",),
    )


_READY_TO_USE = Column("ReadyToUse", ".status.readyToUse", "boolean")
_TAKEN = (Column("CreationTime", ".status.creationTime", "date"), Column("Error", ".status.error.message"))
SNAPSHOTS = _snapshot(
    "VirtualMachineSnapshot",
    "vmsnapshot",
    Column("SourceKind", ".spec.source.kind"),
    Column("SourceName", ".spec.source.name"),
    Column("Phase", ".status.phase"),
    _READY_TO_USE,
    *_TAKEN,
)
SNAPSHOT_CONTENTS = _snapshot("VirtualMachineSnapshotContent", "vmsnapshotcontent", _READY_TO_USE, *_TAKEN)
RESTORES = _snapshot(
    "VirtualMachineRestore",
    "vmrestore",
    Column("TargetKind", ".spec.target.kind"),
    Column("TargetName", ".spec.target.name"),
    Column("Complete", ".status.complete", "boolean"),
    Column("RestoreTime", ".status.restoreTime", "date"),
)
CLONES = Resource(
    "clone.kubevirt.io",
    "v1beta1",
    "virtualmachineclones",
    "VirtualMachineClone",
    "virtualmachineclone",
    ("vmclone", "vmclones"),
    subresources=("status",),
    columns=(
        Column("Phase", ".status.phase"),
        Column("SourceVirtualMachine", ".spec.source.name"),
        Column("TargetVirtualMachine", ".spec.target.name"),
    ),
    categories=("all",),
    custom=True,
    also_served=("v1alpha1",),
)
