"""VirtualMachineInstance: one run of a machine.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

from typing import Annotated

from polyvisor.api.base import Int64, Model, OneOf, Time
from polyvisor.api.core.meta import ObjectMeta
from polyvisor.api.core.pod import PodDNSConfig
from polyvisor.api.core.scheduling import Affinity, Toleration, TopologySpreadConstraint
from polyvisor.api.kubevirt.access import AccessCredential, Probe
from polyvisor.api.kubevirt.compute import MemoryStatus, TopologyHints
from polyvisor.api.kubevirt.devices import DomainSpec
from polyvisor.api.kubevirt.firmware import KernelBootStatus, Machine
from polyvisor.api.kubevirt.hypervisor import HypervisorChoice, HypervisorStatus
from polyvisor.api.kubevirt.migration import (
    CPUTopology,
    StorageMigratedVolumeInfo,
    VirtualMachineInstanceMigrationState,
)
from polyvisor.api.kubevirt.network import Network, VirtualMachineInstanceNetworkInterface
from polyvisor.api.kubevirt.storage import ChangedBlockTrackingStatus, UtilityVolume, Volume, VolumeStatus


class VirtualMachineInstanceResourceClaim(Model):
    """``VirtualMachineInstanceResourceClaim`` of KubeVirt's API."""

    name: str
    resource_claim_name: str | None = None
    resource_claim_template_name: str | None = None


class VirtualMachineInstanceSpec(Model):
    """What should run, and where it may."""

    access_credentials: list[AccessCredential] | None = None
    affinity: Affinity | None = None
    architecture: Annotated[str | None, OneOf("amd64", "arm64", "s390x")] = None
    dns_config: PodDNSConfig | None = None
    dns_policy: Annotated[str | None, OneOf("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")] = None
    domain: DomainSpec
    eviction_strategy: Annotated[str | None, OneOf("None", "LiveMigrate", "LiveMigrateIfPossible", "External")] = None
    hostname: str | None = None
    liveness_probe: Probe | None = None
    networks: list[Network] | None = None
    node_selector: dict[str, str] | None = None
    priority_class_name: str | None = None
    readiness_probe: Probe | None = None
    resource_claims: list[VirtualMachineInstanceResourceClaim] | None = None
    scheduler_name: str | None = None
    service_account_name: str | None = None
    start_strategy: Annotated[str | None, OneOf("Paused")] = None
    subdomain: str | None = None
    termination_grace_period_seconds: Int64 | None = None
    tolerations: list[Toleration] | None = None
    topology_spread_constraints: list[TopologySpreadConstraint] | None = None
    utility_volumes: list[UtilityVolume] | None = None
    volumes: list[Volume] | None = None
    hypervisor: HypervisorChoice | None = None


class VirtualMachineInstanceTemplateSpec(Model):
    """``VirtualMachineInstanceTemplateSpec`` of KubeVirt's API."""

    metadata: ObjectMeta | None = None
    spec: VirtualMachineInstanceSpec | None = None


class VirtualMachineInstanceCondition(Model):
    """``VirtualMachineInstanceCondition`` of KubeVirt's API."""

    last_probe_time: str | None = None
    last_transition_time: str | None = None
    message: str | None = None
    reason: str | None = None
    status: str
    type: str


class VirtualMachineInstanceGuestOSInfo(Model):
    """``VirtualMachineInstanceGuestOSInfo`` of KubeVirt's API."""

    id: str | None = None
    kernel_release: str | None = None
    kernel_version: str | None = None
    machine: str | None = None
    name: str | None = None
    pretty_name: str | None = None
    version: str | None = None
    version_id: str | None = None


class VirtualMachineInstancePhaseTransitionTimestamp(Model):
    """``VirtualMachineInstancePhaseTransitionTimestamp`` of KubeVirt's API."""

    phase: str | None = None
    phase_transition_timestamp: Time | None = None


class VirtualMachineInstanceStatus(Model):
    """``VirtualMachineInstanceStatus`` of KubeVirt's API."""

    vsock_cid: Int64 | None = None
    active_pods: dict[str, str] | None = None
    changed_block_tracking: ChangedBlockTrackingStatus | None = None
    conditions: list[VirtualMachineInstanceCondition] | None = None
    current_cpu_topology: CPUTopology | None = None
    evacuation_node_name: str | None = None
    fs_freeze_status: str | None = None
    guest_os_info: VirtualMachineInstanceGuestOSInfo | None = None
    interfaces: list[VirtualMachineInstanceNetworkInterface] | None = None
    kernel_boot_status: KernelBootStatus | None = None
    launcher_container_image_version: str | None = None
    machine: Machine | None = None
    memory: MemoryStatus | None = None
    migrated_volumes: list[StorageMigratedVolumeInfo] | None = None
    migration_method: str | None = None
    migration_state: VirtualMachineInstanceMigrationState | None = None
    migration_transport: str | None = None
    node_name: str | None = None
    phase: Annotated[
        str | None,
        OneOf("Pending", "Scheduling", "Scheduled", "Running", "Succeeded", "Failed", "WaitingForSync", "Unknown"),
    ] = None
    phase_transition_timestamps: list[VirtualMachineInstancePhaseTransitionTimestamp] | None = None
    qos_class: Annotated[str | None, OneOf("BestEffort", "Burstable", "Guaranteed")] = None
    reason: str | None = None
    runtime_user: Int64 | None = None
    selinux_context: str | None = None
    topology_hints: TopologyHints | None = None
    virtual_machine_revision_name: str | None = None
    volume_status: list[VolumeStatus] | None = None
    hypervisor: HypervisorStatus | None = None


class VirtualMachineInstance(Model):
    """One run of a machine."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    spec: VirtualMachineInstanceSpec
    status: VirtualMachineInstanceStatus | None = None
