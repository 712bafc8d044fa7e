"""Instance types, which give a machine its size, and preferences, which fill in what it leaves open.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

from typing import Annotated

from pydantic import Field

from polyvisor.api.base import Int32, Int64, Model, OneOf, Quantity
from polyvisor.api.core.meta import ObjectMeta
from polyvisor.api.kubevirt.compute import NUMA, CPUFeature, Hugepages, Realtime
from polyvisor.api.kubevirt.devices import GPU, HostDevice, Rng, TPMDevice, VGPUOptions
from polyvisor.api.kubevirt.firmware import (
    EFI,
    ClockOffset,
    FeatureAPIC,
    FeatureHyperv,
    FeatureKVM,
    FeatureState,
    LaunchSecurity,
    Timer,
)
from polyvisor.api.kubevirt.hypervisor import HypervisorChoice
from polyvisor.api.kubevirt.network import InterfaceMasquerade
from polyvisor.api.kubevirt.storage import BlockSize, DiskIOThreads


class CPUInstancetype(Model):
    """``CPUInstancetype`` of KubeVirt's API."""

    dedicated_cpu_placement: bool | None = Field(
        None, validation_alias="dedicatedCPUPlacement", serialization_alias="dedicatedCPUPlacement"
    )
    guest: Int64
    isolate_emulator_thread: bool | None = None
    max_sockets: Int64 | None = None
    model: str | None = None
    numa: NUMA | None = None
    realtime: Realtime | None = None


class CPUPreferenceRequirement(Model):
    """``CPUPreferenceRequirement`` of KubeVirt's API."""

    guest: Int64


class SpreadOptions(Model):
    """``SpreadOptions`` of KubeVirt's API."""

    across: Annotated[str | None, OneOf("SocketsCoresThreads", "SocketsCores", "CoresThreads")] = None
    ratio: Int64 | None = None


class CPUPreferences(Model):
    """``CPUPreferences`` of KubeVirt's API."""

    preferred_cpu_features: list[CPUFeature] | None = None
    preferred_cpu_topology: Annotated[
        str | None,
        OneOf(
            "sockets",
            "cores",
            "threads",
            "spread",
            "any",
            "preferSockets",
            "preferCores",
            "preferThreads",
            "preferSpread",
            "preferAny",
        ),
    ] = None
    spread_options: SpreadOptions | None = None


class ClockPreferences(Model):
    """``ClockPreferences`` of KubeVirt's API."""

    preferred_clock_offset: ClockOffset | None = None
    preferred_timer: Timer | None = None


class DevicePreferences(Model):
    """``DevicePreferences`` of KubeVirt's API."""

    preferred_autoattach_graphics_device: bool | None = None
    preferred_autoattach_input_device: bool | None = None
    preferred_autoattach_mem_balloon: bool | None = None
    preferred_autoattach_pod_interface: bool | None = None
    preferred_autoattach_serial_console: bool | None = None
    preferred_block_multi_queue: bool | None = None
    preferred_cdrom_bus: Annotated[str | None, OneOf("virtio", "sata", "scsi", "usb")] = None
    preferred_disable_hotplug: bool | None = None
    preferred_disk_block_size: BlockSize | None = None
    preferred_disk_bus: Annotated[str | None, OneOf("virtio", "sata", "scsi", "usb")] = None
    preferred_disk_cache: Annotated[str | None, OneOf("none", "writethrough", "writeback")] = None
    preferred_disk_dedicated_io_thread: bool | None = None
    preferred_disk_io: Annotated[str | None, OneOf("native", "threads")] = None
    preferred_input_bus: Annotated[str | None, OneOf("usb", "virtio")] = None
    preferred_input_type: Annotated[str | None, OneOf("tablet")] = None
    preferred_interface_masquerade: InterfaceMasquerade | None = None
    preferred_interface_model: Annotated[
        str | None, OneOf("virtio", "e1000", "e1000e", "igb", "ne2k_pci", "pcnet", "rtl8139")
    ] = None
    preferred_lun_bus: Annotated[str | None, OneOf("virtio", "sata", "scsi")] = None
    preferred_network_interface_multi_queue: bool | None = None
    preferred_panic_device_model: Annotated[str | None, OneOf("hyperv", "isa", "pvpanic")] = None
    preferred_rng: Rng | None = None
    preferred_sound_model: Annotated[str | None, OneOf("ich9", "ac97")] = None
    preferred_tpm: TPMDevice | None = None
    preferred_use_virtio_transitional: bool | None = None
    preferred_video_type: str | None = None
    preferred_virtual_gpu_options: VGPUOptions | None = None


class FeaturePreferences(Model):
    """``FeaturePreferences`` of KubeVirt's API."""

    preferred_acpi: FeatureState | None = None
    preferred_apic: FeatureAPIC | None = None
    preferred_hyperv: FeatureHyperv | None = None
    preferred_kvm: FeatureKVM | None = None
    preferred_pvspinlock: FeatureState | None = None
    preferred_smm: FeatureState | None = None


class FirmwarePreferences(Model):
    """``FirmwarePreferences`` of KubeVirt's API."""

    preferred_efi: EFI | None = None
    preferred_use_bios: bool | None = None
    preferred_use_bios_serial: bool | None = None
    preferred_use_efi: bool | None = None
    preferred_use_secure_boot: bool | None = None


class MachinePreferences(Model):
    """``MachinePreferences`` of KubeVirt's API."""

    preferred_machine_type: str | None = None


class MemoryInstancetype(Model):
    """``MemoryInstancetype`` of KubeVirt's API."""

    guest: Quantity
    hugepages: Hugepages | None = None
    max_guest: Quantity | None = None
    overcommit_percent: Int32 | None = None


class MemoryPreferenceRequirement(Model):
    """``MemoryPreferenceRequirement`` of KubeVirt's API."""

    guest: Quantity


class PreferenceRequirements(Model):
    """``PreferenceRequirements`` of KubeVirt's API."""

    architecture: Annotated[str | None, OneOf("amd64", "arm64", "s390x")] = None
    cpu: CPUPreferenceRequirement | None = None
    memory: MemoryPreferenceRequirement | None = None


class VirtualMachineInstancetypeSpec(Model):
    """``VirtualMachineInstancetypeSpec`` of KubeVirt's API."""

    annotations: dict[str, str] | None = None
    cpu: CPUInstancetype
    gpus: list[GPU] | None = None
    host_devices: list[HostDevice] | None = None
    io_threads: DiskIOThreads | None = None
    io_threads_policy: Annotated[str | None, OneOf("auto", "shared", "supplementalPool")] = None
    launch_security: LaunchSecurity | None = None
    memory: MemoryInstancetype
    node_selector: dict[str, str] | None = None
    scheduler_name: str | None = None


class VirtualMachineClusterInstancetype(Model):
    """The size of a machine, for machines of all namespaces."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    spec: VirtualMachineInstancetypeSpec


class VolumePreferences(Model):
    """``VolumePreferences`` of KubeVirt's API."""

    preferred_storage_class_name: str | None = None


class VirtualMachinePreferenceSpec(Model):
    """``VirtualMachinePreferenceSpec`` of KubeVirt's API."""

    annotations: dict[str, str] | None = None
    clock: ClockPreferences | None = None
    cpu: CPUPreferences | None = None
    devices: DevicePreferences | None = None
    features: FeaturePreferences | None = None
    firmware: FirmwarePreferences | None = None
    machine: MachinePreferences | None = None
    prefer_spread_socket_to_core_ratio: Int64 | None = None
    preferred_architecture: Annotated[str | None, OneOf("amd64", "arm64", "s390x")] = None
    preferred_launch_security: LaunchSecurity | None = None
    preferred_subdomain: str | None = None
    preferred_termination_grace_period_seconds: Int64 | None = None
    requirements: PreferenceRequirements | None = None
    volumes: VolumePreferences | None = None
    preferred_hypervisor: HypervisorChoice | None = None


class VirtualMachineClusterPreference(Model):
    """What a guest prefers, for machines of all namespaces."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    spec: VirtualMachinePreferenceSpec


class VirtualMachineInstancetype(Model):
    """The size of a machine, for machines of its namespace."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    spec: VirtualMachineInstancetypeSpec


class VirtualMachinePreference(Model):
    """What a guest prefers, for machines of its namespace."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    spec: VirtualMachinePreferenceSpec
