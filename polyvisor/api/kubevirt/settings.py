"""The parts of the cluster's configuration.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

from typing import Annotated

from polyvisor.api.base import Int32, Int64, Model, OneOf, Quantity
from polyvisor.api.core.meta import LabelSelector
from polyvisor.api.kubevirt.compute import ResourceRequirementsWithoutClaims


class ArchSpecificConfiguration(Model):
    """``ArchSpecificConfiguration`` of KubeVirt's API."""

    emulated_machines: list[str] | None = None
    machine_type: str | None = None
    ovmf_path: str | None = None


class ArchConfiguration(Model):
    """``ArchConfiguration`` of KubeVirt's API."""

    amd64: ArchSpecificConfiguration | None = None
    arm64: ArchSpecificConfiguration | None = None
    default_architecture: str | None = None
    ppc64le: ArchSpecificConfiguration | None = None
    s390x: ArchSpecificConfiguration | None = None


class ChangedBlockTrackingSelectors(Model):
    """``ChangedBlockTrackingSelectors`` of KubeVirt's API."""

    namespace_label_selector: LabelSelector | None = None
    virtual_machine_label_selector: LabelSelector | None = None


class CommonInstancetypesDeployment(Model):
    """``CommonInstancetypesDeployment`` of KubeVirt's API."""

    enabled: bool | None = None


class TDXAttestationConfiguration(Model):
    """``TDXAttestationConfiguration`` of KubeVirt's API."""

    enforced: bool | None = None
    qgs_socket_path: str | None = None


class TDXConfiguration(Model):
    """``TDXConfiguration`` of KubeVirt's API."""

    attestation: TDXAttestationConfiguration | None = None


class ConfidentialComputeConfiguration(Model):
    """``ConfidentialComputeConfiguration`` of KubeVirt's API."""

    tdx: TDXConfiguration | None = None


class CustomProfile(Model):
    """``CustomProfile`` of KubeVirt's API."""

    localhost_profile: str | None = None
    runtime_default_profile: bool | None = None


class DiskVerification(Model):
    """``DiskVerification`` of KubeVirt's API."""

    memory_limit: Quantity


class LogVerbosity(Model):
    """``LogVerbosity`` of KubeVirt's API."""

    node_verbosity: dict[str, Int32] | None = None
    virt_api: Int32 | None = None
    virt_controller: Int32 | None = None
    virt_handler: Int32 | None = None
    virt_launcher: Int32 | None = None
    virt_operator: Int32 | None = None
    virt_synchronization_controller: Int32 | None = None


class DeveloperConfiguration(Model):
    """``DeveloperConfiguration`` of KubeVirt's API."""

    cluster_profiler: bool | None = None
    cpu_allocation_ratio: Int32 | None = None
    disabled_feature_gates: list[str] | None = None
    disk_verification: DiskVerification | None = None
    feature_gates: list[str] | None = None
    log_verbosity: LogVerbosity | None = None
    memory_overcommit: Int32 | None = None
    minimum_cluster_tsc_frequency: Int64 | None = None
    minimum_reserve_pvc_bytes: Int64 | None = None
    node_selectors: dict[str, str] | None = None
    pvc_tolerate_less_space_up_to_percent: Int32 | None = None
    use_emulation: bool | None = None


class DisableFreePageReporting(Model):
    """``DisableFreePageReporting`` of KubeVirt's API."""


class DisableSerialConsoleLog(Model):
    """``DisableSerialConsoleLog`` of KubeVirt's API."""


class HypervisorConfiguration(Model):
    """A hypervisor driver that the cluster enables; the order of the list is preference."""

    name: str | None = None
    launcher_image: str | None = None


class InstancetypeConfiguration(Model):
    """``InstancetypeConfiguration`` of KubeVirt's API."""

    reference_policy: str | None = None


class KSMConfiguration(Model):
    """``KSMConfiguration`` of KubeVirt's API."""

    node_label_selector: LabelSelector | None = None


class TokenBucketRateLimiter(Model):
    """``TokenBucketRateLimiter`` of KubeVirt's API."""

    burst: Int32
    qps: float


class RateLimiter(Model):
    """``RateLimiter`` of KubeVirt's API."""

    token_bucket_rate_limiter: TokenBucketRateLimiter | None = None


class RESTClientConfiguration(Model):
    """``RESTClientConfiguration`` of KubeVirt's API."""

    rate_limiter: RateLimiter | None = None


class ReloadableComponentConfiguration(Model):
    """``ReloadableComponentConfiguration`` of KubeVirt's API."""

    rest_client: RESTClientConfiguration | None = None


class LiveUpdateConfiguration(Model):
    """``LiveUpdateConfiguration`` of KubeVirt's API."""

    max_cpu_sockets: Int64 | None = None
    max_guest: Quantity | None = None
    max_hotplug_ratio: Int64 | None = None


class NodeMediatedDeviceTypesConfig(Model):
    """``NodeMediatedDeviceTypesConfig`` of KubeVirt's API."""

    mediated_device_types: list[str] | None = None
    mediated_devices_types: list[str] | None = None
    node_selector: dict[str, str]


class MediatedDevicesConfiguration(Model):
    """``MediatedDevicesConfiguration`` of KubeVirt's API."""

    enabled: bool | None = None
    mediated_device_types: list[str] | None = None
    mediated_devices_types: list[str] | None = None
    node_mediated_device_types: list[NodeMediatedDeviceTypesConfig] | None = None


class MediatedHostDevice(Model):
    """``MediatedHostDevice`` of KubeVirt's API."""

    external_resource_provider: bool | None = None
    mdev_name_selector: str
    resource_name: str


class PciHostDevice(Model):
    """``PciHostDevice`` of KubeVirt's API."""

    external_resource_provider: bool | None = None
    pci_vendor_selector: str
    resource_name: str


class USBSelector(Model):
    """``USBSelector`` of KubeVirt's API."""

    product: str
    vendor: str


class USBHostDevice(Model):
    """``USBHostDevice`` of KubeVirt's API."""

    external_resource_provider: bool | None = None
    resource_name: str
    selectors: list[USBSelector] | None = None


class PermittedHostDevices(Model):
    """``PermittedHostDevices`` of KubeVirt's API."""

    mediated_devices: list[MediatedHostDevice] | None = None
    pci_host_devices: list[PciHostDevice] | None = None
    usb: list[USBHostDevice] | None = None


class PersistentReservationConfiguration(Model):
    """``PersistentReservationConfiguration`` of KubeVirt's API."""

    enabled: bool | None = None


class VirtualMachineInstanceProfile(Model):
    """``VirtualMachineInstanceProfile`` of KubeVirt's API."""

    custom_profile: CustomProfile | None = None


class SeccompConfiguration(Model):
    """``SeccompConfiguration`` of KubeVirt's API."""

    virtual_machine_instance_profile: VirtualMachineInstanceProfile | None = None


class SMBiosConfiguration(Model):
    """``SMBiosConfiguration`` of KubeVirt's API."""

    family: str | None = None
    manufacturer: str | None = None
    product: str | None = None
    sku: str | None = None
    version: str | None = None


class SupportContainerResources(Model):
    """``SupportContainerResources`` of KubeVirt's API."""

    resources: ResourceRequirementsWithoutClaims
    type: str


class TLSConfiguration(Model):
    """``TLSConfiguration`` of KubeVirt's API."""

    ciphers: list[str] | None = None
    min_tls_version: Annotated[str | None, OneOf("VersionTLS10", "VersionTLS11", "VersionTLS12", "VersionTLS13")] = None


class VirtTemplateDeployment(Model):
    """``VirtTemplateDeployment`` of KubeVirt's API."""

    enabled: bool | None = None


class VirtualMachineOptions(Model):
    """``VirtualMachineOptions`` of KubeVirt's API."""

    disable_free_page_reporting: DisableFreePageReporting | None = None
    disable_serial_console_log: DisableSerialConsoleLog | None = None
