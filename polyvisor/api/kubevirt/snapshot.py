"""VirtualMachineSnapshot, its content, and VirtualMachineRestore.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

from typing import Annotated

from polyvisor.api.base import Duration, Model, OneOf, Time
from polyvisor.api.core.meta import ObjectMeta, TypedLocalObjectReference
from polyvisor.api.core.storage import PersistentVolumeClaimSpec
from polyvisor.api.kubevirt.machine import VirtualMachineSpec, VirtualMachineStatus


class SnapshotCondition(Model):
    """``Condition`` of KubeVirt's API."""

    last_probe_time: str | None = None
    last_transition_time: str | None = None
    message: str | None = None
    reason: str | None = None
    status: str
    type: str


class SnapshotError(Model):
    """``Error`` of KubeVirt's API."""

    message: str | None = None
    time: Time | None = None


class SnapshotClaim(Model):
    """``PersistentVolumeClaim`` of KubeVirt's API."""

    metadata: ObjectMeta | None = None
    spec: PersistentVolumeClaimSpec | None = None


class SnapshotVolumesLists(Model):
    """``SnapshotVolumesLists`` of KubeVirt's API."""

    excluded_volumes: list[str] | None = None
    included_volumes: list[str] | None = None


class SourceIndication(Model):
    """``SourceIndication`` of KubeVirt's API."""

    indication: str
    message: str


class SnapshotMachine(Model):
    """``VirtualMachine`` of KubeVirt's API."""

    metadata: ObjectMeta | None = None
    spec: VirtualMachineSpec | None = None
    status: VirtualMachineStatus | None = None


class SourceSpec(Model):
    """``SourceSpec`` of KubeVirt's API."""

    virtual_machine: SnapshotMachine | None = None


class VolumeRestoreOverride(Model):
    """``VolumeRestoreOverride`` of KubeVirt's API."""

    annotations: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    restore_name: str | None = None
    volume_name: str | None = None


class VirtualMachineRestoreSpec(Model):
    """``VirtualMachineRestoreSpec`` of KubeVirt's API."""

    patches: list[str] | None = None
    target: TypedLocalObjectReference
    target_readiness_policy: Annotated[
        str | None, OneOf("StopTarget", "WaitGracePeriod", "FailImmediate", "WaitEventually")
    ] = None
    virtual_machine_snapshot_name: str
    volume_ownership_policy: Annotated[str | None, OneOf("Vm", "None")] = None
    volume_restore_overrides: list[VolumeRestoreOverride] | None = None
    volume_restore_policy: Annotated[str | None, OneOf("RandomizeNames", "InPlace", "PrefixTargetName")] = None


class VolumeRestore(Model):
    """``VolumeRestore`` of KubeVirt's API."""

    data_volume_name: str | None = None
    persistent_volume_claim: str
    volume_name: str
    volume_snapshot_name: str


class VirtualMachineRestoreStatus(Model):
    """``VirtualMachineRestoreStatus`` of KubeVirt's API."""

    complete: bool | None = None
    conditions: list[SnapshotCondition] | None = None
    deleted_data_volumes: list[str] | None = None
    restore_time: Time | None = None
    restores: list[VolumeRestore] | None = None


class VirtualMachineRestore(Model):
    """Brings a virtual machine back to a snapshot."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    spec: VirtualMachineRestoreSpec
    status: VirtualMachineRestoreStatus | None = None


class VirtualMachineSnapshotSpec(Model):
    """``VirtualMachineSnapshotSpec`` of KubeVirt's API."""

    deletion_policy: Annotated[str | None, OneOf("Delete", "Retain")] = None
    failure_deadline: Duration | None = None
    source: TypedLocalObjectReference


class VirtualMachineSnapshotStatus(Model):
    """``VirtualMachineSnapshotStatus`` of KubeVirt's API."""

    conditions: list[SnapshotCondition] | None = None
    creation_time: Time | None = None
    error: SnapshotError | None = None
    indications: list[str] | None = None
    phase: str | None = None
    ready_to_use: bool | None = None
    snapshot_volumes: SnapshotVolumesLists | None = None
    source_indications: list[SourceIndication] | None = None
    source_uid: str | None = None
    virtual_machine_snapshot_content_name: str | None = None


class VirtualMachineSnapshot(Model):
    """The state of a virtual machine and its volumes at one moment."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    spec: VirtualMachineSnapshotSpec
    status: VirtualMachineSnapshotStatus | None = None


class VolumeBackup(Model):
    """``VolumeBackup`` of KubeVirt's API."""

    persistent_volume_claim: SnapshotClaim
    volume_name: str
    volume_snapshot_name: str | None = None


class VirtualMachineSnapshotContentSpec(Model):
    """``VirtualMachineSnapshotContentSpec`` of KubeVirt's API."""

    source: SourceSpec
    virtual_machine_snapshot_name: str | None = None
    volume_backups: list[VolumeBackup] | None = None


class SnapshotVolumeStatus(Model):
    """``VolumeSnapshotStatus`` of KubeVirt's API."""

    creation_time: Time | None = None
    error: SnapshotError | None = None
    ready_to_use: bool | None = None
    volume_snapshot_name: str


class VirtualMachineSnapshotContentStatus(Model):
    """``VirtualMachineSnapshotContentStatus`` of KubeVirt's API."""

    creation_time: Time | None = None
    error: SnapshotError | None = None
    ready_to_use: bool | None = None
    volume_snapshot_status: list[SnapshotVolumeStatus] | None = None


class VirtualMachineSnapshotContent(Model):
    """What a snapshot holds: the virtual machine and the snapshots of its volumes."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    spec: VirtualMachineSnapshotContentSpec
    status: VirtualMachineSnapshotContentStatus | None = None
