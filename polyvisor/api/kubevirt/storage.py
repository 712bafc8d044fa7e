"""Disks, the volumes behind them, and their state.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

from typing import Annotated

from polyvisor.api.base import Int32, Int64, Model, OneOf, Quantity, Time
from polyvisor.api.core.meta import LocalObjectReference
from polyvisor.api.core.pod import DownwardAPIVolumeFile
from polyvisor.api.core.storage import ClaimReference
from polyvisor.api.kubevirt.firmware import FeatureState


class CustomBlockSize(Model):
    """``CustomBlockSize`` of KubeVirt's API."""

    discard_granularity: Int32 | None = None
    logical: Int32 | None = None
    physical: Int32 | None = None


class BlockSize(Model):
    """``BlockSize`` of KubeVirt's API."""

    custom: CustomBlockSize | None = None
    match_volume: FeatureState | None = None


class CDRomTarget(Model):
    """``CDRomTarget`` of KubeVirt's API."""

    bus: Annotated[str | None, OneOf("virtio", "sata", "scsi", "usb")] = None
    readonly: bool | None = None
    tray: Annotated[str | None, OneOf("open", "closed")] = None


class DiskTarget(Model):
    """``DiskTarget`` of KubeVirt's API."""

    bus: Annotated[str | None, OneOf("virtio", "sata", "scsi", "usb")] = None
    pci_address: str | None = None
    readonly: bool | None = None
    rotation_rate: Int32 | None = None


class LunTarget(Model):
    """``LunTarget`` of KubeVirt's API."""

    bus: Annotated[str | None, OneOf("virtio", "sata", "scsi")] = None
    readonly: bool | None = None
    reservation: bool | None = None


class Disk(Model):
    """A disk of a machine; the volume of the same name holds its contents."""

    block_size: BlockSize | None = None
    boot_order: Int32 | None = None
    cache: Annotated[str | None, OneOf("none", "writethrough", "writeback")] = None
    cdrom: CDRomTarget | None = None
    changed_block_tracking: bool | None = None
    dedicated_io_thread: bool | None = None
    disk: DiskTarget | None = None
    error_policy: Annotated[str | None, OneOf("stop", "ignore", "report", "enospace")] = None
    io: Annotated[str | None, OneOf("native", "threads")] = None
    lun: LunTarget | None = None
    name: str
    serial: str | None = None
    shareable: bool | None = None
    tag: str | None = None


class DataVolumeSource(Model):
    """``DataVolumeSource`` of KubeVirt's API."""

    hotpluggable: bool | None = None
    name: str


class PersistentVolumeClaimVolumeSource(Model):
    """``PersistentVolumeClaimVolumeSource`` of KubeVirt's API."""

    claim_name: str
    hotpluggable: bool | None = None
    read_only: bool | None = None


class HotplugVolumeSource(Model):
    """``HotplugVolumeSource`` of KubeVirt's API."""

    data_volume: DataVolumeSource | None = None
    persistent_volume_claim: PersistentVolumeClaimVolumeSource | None = None


class AddVolumeOptions(Model):
    """``AddVolumeOptions`` of KubeVirt's API."""

    disk: Disk
    dry_run: list[str] | None = None
    name: str
    volume_source: HotplugVolumeSource


class VirtualMachineInstanceBackupVolumeInfo(Model):
    """``VirtualMachineInstanceBackupVolumeInfo`` of KubeVirt's API."""

    volume_name: str


class VirtualMachineInstanceBackupStatus(Model):
    """``VirtualMachineInstanceBackupStatus`` of KubeVirt's API."""

    backup_msg: str | None = None
    backup_name: str | None = None
    checkpoint_name: str | None = None
    completed: bool | None = None
    end_timestamp: Time | None = None
    failed: bool | None = None
    quiesce_status: str | None = None
    start_timestamp: Time | None = None
    volumes: list[VirtualMachineInstanceBackupVolumeInfo] | None = None


class ChangedBlockTrackingStatus(Model):
    """``ChangedBlockTrackingStatus`` of KubeVirt's API."""

    backup_status: VirtualMachineInstanceBackupStatus | None = None
    state: str


class CloudInitConfigDriveSource(Model):
    """``CloudInitConfigDriveSource`` of KubeVirt's API."""

    network_data: str | None = None
    network_data_base64: str | None = None
    network_data_secret_ref: LocalObjectReference | None = None
    secret_ref: LocalObjectReference | None = None
    user_data: str | None = None
    user_data_base64: str | None = None


class CloudInitNoCloudSource(Model):
    """``CloudInitNoCloudSource`` of KubeVirt's API."""

    network_data: str | None = None
    network_data_base64: str | None = None
    network_data_secret_ref: LocalObjectReference | None = None
    secret_ref: LocalObjectReference | None = None
    user_data: str | None = None
    user_data_base64: str | None = None


class ConfigMapVolumeSource(Model):
    """``ConfigMapVolumeSource`` of KubeVirt's API."""

    name: str | None = None
    optional: bool | None = None
    volume_label: str | None = None


class ContainerDiskInfo(Model):
    """``ContainerDiskInfo`` of KubeVirt's API."""

    checksum: Int64 | None = None


class ContainerDiskSource(Model):
    """``ContainerDiskSource`` of KubeVirt's API."""

    image: str
    image_pull_policy: Annotated[str | None, OneOf("Always", "IfNotPresent", "Never")] = None
    image_pull_secret: str | None = None
    path: str | None = None


class ContainerPathVolumeSource(Model):
    """``ContainerPathVolumeSource`` of KubeVirt's API."""

    path: str
    read_only: bool | None = None


class FilesystemVirtiofs(Model):
    """``FilesystemVirtiofs`` of KubeVirt's API."""


class Filesystem(Model):
    """``Filesystem`` of KubeVirt's API."""

    name: str
    virtiofs: FilesystemVirtiofs


class DiskIOThreads(Model):
    """``DiskIOThreads`` of KubeVirt's API."""

    supplemental_pool_thread_count: Int64 | None = None


class DomainMemoryDumpInfo(Model):
    """``DomainMemoryDumpInfo`` of KubeVirt's API."""

    claim_name: str | None = None
    end_timestamp: Time | None = None
    start_timestamp: Time | None = None
    target_file_name: str | None = None


class DownwardAPIVolumeSource(Model):
    """``DownwardAPIVolumeSource`` of KubeVirt's API."""

    fields: list[DownwardAPIVolumeFile] | None = None
    volume_label: str | None = None


class DownwardMetricsVolumeSource(Model):
    """``DownwardMetricsVolumeSource`` of KubeVirt's API."""


class EmptyDiskSource(Model):
    """``EmptyDiskSource`` of KubeVirt's API."""

    capacity: Quantity


class EphemeralVolumeSource(Model):
    """``EphemeralVolumeSource`` of KubeVirt's API."""

    persistent_volume_claim: ClaimReference | None = None


class HostDisk(Model):
    """``HostDisk`` of KubeVirt's API."""

    capacity: Quantity | None = None
    path: str
    shared: bool | None = None
    type: Annotated[str, OneOf("Disk", "DiskOrCreate")]


class HotplugVolumeStatus(Model):
    """``HotplugVolumeStatus`` of KubeVirt's API."""

    attach_pod_name: str | None = None
    attach_pod_uid: str | None = None


class MemoryDumpVolumeSource(Model):
    """``MemoryDumpVolumeSource`` of KubeVirt's API."""

    claim_name: str
    hotpluggable: bool | None = None
    read_only: bool | None = None


class PersistentVolumeClaimInfo(Model):
    """``PersistentVolumeClaimInfo`` of KubeVirt's API."""

    access_modes: list[str] | None = None
    capacity: dict[str, Quantity] | None = None
    claim_name: str | None = None
    filesystem_overhead: str | None = None
    preallocated: bool | None = None
    requests: dict[str, Quantity] | None = None
    volume_mode: Annotated[str | None, OneOf("Block", "Filesystem", "FromStorageProfile")] = None


class RemoveVolumeOptions(Model):
    """``RemoveVolumeOptions`` of KubeVirt's API."""

    dry_run: list[str] | None = None
    name: str


class SecretVolumeSource(Model):
    """``SecretVolumeSource`` of KubeVirt's API."""

    optional: bool | None = None
    secret_name: str | None = None
    volume_label: str | None = None


class ServiceAccountVolumeSource(Model):
    """``ServiceAccountVolumeSource`` of KubeVirt's API."""

    service_account_name: str | None = None


class SysprepSource(Model):
    """``SysprepSource`` of KubeVirt's API."""

    config_map: LocalObjectReference | None = None
    secret: LocalObjectReference | None = None


class UtilityVolume(Model):
    """``UtilityVolume`` of KubeVirt's API."""

    claim_name: str
    name: str
    read_only: bool | None = None
    type: str | None = None


class Volume(Model):
    """Where the contents of a disk come from; exactly one source is given."""

    cloud_init_config_drive: CloudInitConfigDriveSource | None = None
    cloud_init_no_cloud: CloudInitNoCloudSource | None = None
    config_map: ConfigMapVolumeSource | None = None
    container_disk: ContainerDiskSource | None = None
    container_path: ContainerPathVolumeSource | None = None
    data_volume: DataVolumeSource | None = None
    downward_api: DownwardAPIVolumeSource | None = None
    downward_metrics: DownwardMetricsVolumeSource | None = None
    empty_disk: EmptyDiskSource | None = None
    ephemeral: EphemeralVolumeSource | None = None
    host_disk: HostDisk | None = None
    memory_dump: MemoryDumpVolumeSource | None = None
    name: str
    persistent_volume_claim: PersistentVolumeClaimVolumeSource | None = None
    secret: SecretVolumeSource | None = None
    service_account: ServiceAccountVolumeSource | None = None
    sysprep: SysprepSource | None = None


class VirtualMachineMemoryDumpRequest(Model):
    """``VirtualMachineMemoryDumpRequest`` of KubeVirt's API."""

    claim_name: str
    end_timestamp: Time | None = None
    file_name: str | None = None
    message: str | None = None
    phase: str
    remove: bool | None = None
    start_timestamp: Time | None = None


class VirtualMachineVolumeRequest(Model):
    """``VirtualMachineVolumeRequest`` of KubeVirt's API."""

    add_volume_options: AddVolumeOptions | None = None
    remove_volume_options: RemoveVolumeOptions | None = None


class VolumeSnapshotStatus(Model):
    """``VolumeSnapshotStatus`` of KubeVirt's API."""

    enabled: bool
    name: str
    reason: str | None = None


class VolumeStatus(Model):
    """``VolumeStatus`` of KubeVirt's API."""

    container_disk_volume: ContainerDiskInfo | None = None
    hotplug_volume: HotplugVolumeStatus | None = None
    memory_dump_volume: DomainMemoryDumpInfo | None = None
    message: str | None = None
    name: str
    persistent_volume_claim_info: PersistentVolumeClaimInfo | None = None
    phase: str | None = None
    reason: str | None = None
    size: Int64 | None = None
    target: str
