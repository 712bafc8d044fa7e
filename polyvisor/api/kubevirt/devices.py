"""All other devices, and the domain that holds everything.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

from typing import Annotated

from polyvisor.api.base import Model, OneOf
from polyvisor.api.kubevirt.compute import CPU, Memory, ResourceRequirements
from polyvisor.api.kubevirt.firmware import Chassis, Clock, Features, FeatureState, Firmware, LaunchSecurity, Machine
from polyvisor.api.kubevirt.network import Interface
from polyvisor.api.kubevirt.storage import Disk, DiskIOThreads, Filesystem


class ClientPassthroughDevices(Model):
    """``ClientPassthroughDevices`` of KubeVirt's API."""


class DownwardMetrics(Model):
    """``DownwardMetrics`` of KubeVirt's API."""


class VGPUDisplayOptions(Model):
    """``VGPUDisplayOptions`` of KubeVirt's API."""

    enabled: bool | None = None
    ram_fb: FeatureState | None = None


class VGPUOptions(Model):
    """``VGPUOptions`` of KubeVirt's API."""

    display: VGPUDisplayOptions | None = None


class GPU(Model):
    """``GPU`` of KubeVirt's API."""

    claim_name: str | None = None
    device_name: str | None = None
    name: str
    request_name: str | None = None
    tag: str | None = None
    virtual_gpu_options: VGPUOptions | None = None


class HostDevice(Model):
    """``HostDevice`` of KubeVirt's API."""

    claim_name: str | None = None
    device_name: str | None = None
    name: str
    request_name: str | None = None
    tag: str | None = None


class Input(Model):
    """``Input`` of KubeVirt's API."""

    bus: Annotated[str | None, OneOf("usb", "virtio")] = None
    name: str
    type: Annotated[str, OneOf("tablet")]


class PanicDevice(Model):
    """``PanicDevice`` of KubeVirt's API."""

    model: Annotated[str | None, OneOf("hyperv", "isa", "pvpanic")] = None


class Rng(Model):
    """``Rng`` of KubeVirt's API."""


class SoundDevice(Model):
    """``SoundDevice`` of KubeVirt's API."""

    model: Annotated[str | None, OneOf("ich9", "ac97")] = None
    name: str


class TPMDevice(Model):
    """``TPMDevice`` of KubeVirt's API."""

    enabled: bool | None = None
    persistent: bool | None = None


class VideoDevice(Model):
    """``VideoDevice`` of KubeVirt's API."""

    type: str | None = None


class Diag288Watchdog(Model):
    """``Diag288Watchdog`` of KubeVirt's API."""

    action: Annotated[str | None, OneOf("poweroff", "reset", "shutdown")] = None


class I6300ESBWatchdog(Model):
    """``I6300ESBWatchdog`` of KubeVirt's API."""

    action: Annotated[str | None, OneOf("poweroff", "reset", "shutdown")] = None


class Watchdog(Model):
    """``Watchdog`` of KubeVirt's API."""

    diag288: Diag288Watchdog | None = None
    i6300esb: I6300ESBWatchdog | None = None
    name: str


class Devices(Model):
    """``Devices`` of KubeVirt's API."""

    autoattach_graphics_device: bool | None = None
    autoattach_input_device: bool | None = None
    autoattach_mem_balloon: bool | None = None
    autoattach_pod_interface: bool | None = None
    autoattach_serial_console: bool | None = None
    autoattach_vsock: bool | None = None
    block_multi_queue: bool | None = None
    client_passthrough: ClientPassthroughDevices | None = None
    disable_hotplug: bool | None = None
    disks: list[Disk] | None = None
    downward_metrics: DownwardMetrics | None = None
    filesystems: list[Filesystem] | None = None
    gpus: list[GPU] | None = None
    host_devices: list[HostDevice] | None = None
    inputs: list[Input] | None = None
    interfaces: list[Interface] | None = None
    log_serial_console: bool | None = None
    network_interface_multiqueue: bool | None = None
    panic_devices: list[PanicDevice] | None = None
    rng: Rng | None = None
    sound: SoundDevice | None = None
    tpm: TPMDevice | None = None
    use_virtio_transitional: bool | None = None
    video: VideoDevice | None = None
    watchdog: Watchdog | None = None


class DomainSpec(Model):
    """The virtual hardware of a machine."""

    chassis: Chassis | None = None
    clock: Clock | None = None
    cpu: CPU | None = None
    devices: Devices
    features: Features | None = None
    firmware: Firmware | None = None
    io_threads: DiskIOThreads | None = None
    io_threads_policy: Annotated[str | None, OneOf("auto", "shared", "supplementalPool")] = None
    launch_security: LaunchSecurity | None = None
    machine: Machine | None = None
    memory: Memory | None = None
    reboot_policy: Annotated[str | None, OneOf("Reboot", "Terminate")] = None
    resources: ResourceRequirements | None = None
