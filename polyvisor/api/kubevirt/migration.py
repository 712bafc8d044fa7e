"""The course of a live migration, and the settings for it.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

from pydantic import Field

from polyvisor.api.base import Int32, Int64, Model, Quantity, Time
from polyvisor.api.core.meta import ObjectMeta
from polyvisor.api.kubevirt.storage import PersistentVolumeClaimInfo


class CPUTopology(Model):
    """``CPUTopology`` of KubeVirt's API."""

    cores: Int64 | None = None
    sockets: Int64 | None = None
    threads: Int64 | None = None


class DowntimeTuningOptions(Model):
    """``DowntimeTuningOptions`` of KubeVirt's API."""

    cooldown_seconds: Int32 | None = None
    initial_ms: Int64 | None = None
    start_after_iteration: Int64 | None = None
    steps: Int32 | None = None


class StallDetectorOptions(Model):
    """``StallDetectorOptions`` of KubeVirt's API."""

    completion_timeout_factor: Quantity | None = None
    ewma_alpha: Quantity | None = None
    patience_window_decay_factor: Quantity | None = None
    precopy_possible_factor: Quantity | None = None
    search_local_minima: bool | None = None
    stall_margin: Int64 | None = None
    stall_progress_timeout: Int64 | None = None
    switchover_timeout: Int64 | None = None


class ExperimentalMigrationOptions(Model):
    """``ExperimentalMigrationOptions`` of KubeVirt's API."""

    compression: str | None = None
    downtime_tuning: DowntimeTuningOptions | None = None
    stall_detector: StallDetectorOptions | None = None


class MigrationConfiguration(Model):
    """``MigrationConfiguration`` of KubeVirt's API."""

    allow_auto_converge: bool | None = None
    allow_post_copy: bool | None = None
    allow_workload_disruption: bool | None = None
    bandwidth_per_migration: Quantity | None = None
    completion_timeout_per_gi_b: Int64 | None = None
    disable_tls: bool | None = None
    match_selinux_level_on_migration: bool | None = None
    max_downtime_ms: Int64 | None = None
    network: str | None = None
    node_drain_taint_key: str | None = None
    parallel_migrations_per_cluster: Int64 | None = None
    parallel_outbound_migrations_per_node: Int64 | None = None
    progress_timeout: Int64 | None = None
    unsafe_migration_override: bool | None = None
    utility_volumes_timeout: Int64 | None = None


class StorageMigratedVolumeInfo(Model):
    """``StorageMigratedVolumeInfo`` of KubeVirt's API."""

    destination_pvc_info: PersistentVolumeClaimInfo | None = None
    source_pvc_info: PersistentVolumeClaimInfo | None = None
    volume_name: str


class VMIMConfigurationOptions(Model):
    """``VMIMConfigurationOptions`` of KubeVirt's API."""

    allow_auto_converge: bool | None = None
    allow_post_copy: bool | None = None
    allow_workload_disruption: bool | None = None
    bandwidth_per_migration: Quantity | None = None
    completion_timeout_per_gi_b: Int64 | None = None
    disable_tls: bool | None = None
    experimental: ExperimentalMigrationOptions | None = None
    match_selinux_level_on_migration: bool | None = None
    max_downtime_ms: Int64 | None = None
    network: str | None = None
    node_drain_taint_key: str | None = None
    parallel_migrations_per_cluster: Int64 | None = None
    parallel_outbound_migrations_per_node: Int64 | None = None
    progress_timeout: Int64 | None = None
    unsafe_migration_override: bool | None = None
    utility_volumes_timeout: Int64 | None = None


class VolumeMigrationState(Model):
    """``VolumeMigrationState`` of KubeVirt's API."""

    migrated_volumes: list[StorageMigratedVolumeInfo] | None = None


class VolumeUpdateState(Model):
    """``VolumeUpdateState`` of KubeVirt's API."""

    volume_migration_state: VolumeMigrationState | None = None


class VirtualMachineInstanceMigrationSourceState(Model):
    """``VirtualMachineInstanceMigrationSourceState`` of KubeVirt's API."""

    domain_name: str | None = None
    domain_namespace: str | None = None
    migration_uid: str | None = Field(None, validation_alias="migrationUID", serialization_alias="migrationUID")
    node: str | None = None
    node_selectors: dict[str, str] | None = None
    persistent_state_pvc_name: str | None = None
    pod: str | None = None
    selinux_context: str | None = None
    sync_address: str | None = None
    virtual_machine_instance_uid: str | None = None


class VirtualMachineInstanceMigrationTargetState(Model):
    """``VirtualMachineInstanceMigrationTargetState`` of KubeVirt's API."""

    attachment_pod_uid: str | None = None
    cpu_set: list[Int32] | None = None
    direct_migration_node_ports: dict[str, Int32] | None = None
    domain_detected: bool | None = None
    domain_name: str | None = None
    domain_namespace: str | None = None
    domain_ready_timestamp: Time | None = None
    migration_uid: str | None = Field(None, validation_alias="migrationUID", serialization_alias="migrationUID")
    node: str | None = None
    node_address: str | None = None
    node_topology: str | None = None
    persistent_state_pvc_name: str | None = None
    pod: str | None = None
    selinux_context: str | None = None
    sync_address: str | None = None
    virtual_machine_instance_uid: str | None = None


class VirtualMachineInstanceMigrationState(Model):
    """``VirtualMachineInstanceMigrationState`` of KubeVirt's API."""

    abort_requested: bool | None = None
    abort_status: str | None = None
    completed: bool | None = None
    end_timestamp: Time | None = None
    failed: bool | None = None
    failure_reason: str | None = None
    migration_configuration: VMIMConfigurationOptions | None = None
    migration_network_type: str | None = None
    migration_policy_name: str | None = None
    migration_uid: str | None = None
    mode: str | None = None
    source_node: str | None = None
    source_persistent_state_pvc_name: str | None = None
    source_pod: str | None = None
    source_state: VirtualMachineInstanceMigrationSourceState | None = None
    start_timestamp: Time | None = None
    target_attachment_pod_uid: str | None = None
    target_cpu_set: list[Int32] | None = None
    target_direct_migration_node_ports: dict[str, Int32] | None = None
    target_memory_overhead: Quantity | None = None
    target_node: str | None = None
    target_node_address: str | None = None
    target_node_domain_detected: bool | None = None
    target_node_domain_ready_timestamp: Time | None = None
    target_node_topology: str | None = None
    target_persistent_state_pvc_name: str | None = None
    target_pod: str | None = None
    target_state: VirtualMachineInstanceMigrationTargetState | None = None


class VirtualMachineInstanceMigrationTarget(Model):
    """``VirtualMachineInstanceMigrationTarget`` of KubeVirt's API."""

    migration_id: str


class VirtualMachineInstanceMigrationSource(Model):
    """``VirtualMachineInstanceMigrationSource`` of KubeVirt's API."""

    connect_url: str
    migration_id: str


class VirtualMachineInstanceMigrationSpec(Model):
    """``VirtualMachineInstanceMigrationSpec`` of KubeVirt's API."""

    added_node_selector: dict[str, str] | None = None
    priority: str | None = None
    receive: VirtualMachineInstanceMigrationTarget | None = None
    send_to: VirtualMachineInstanceMigrationSource | None = None
    vmi_name: str | None = None


class VirtualMachineInstanceMigrationCondition(Model):
    """``VirtualMachineInstanceMigrationCondition`` of KubeVirt's API."""

    last_probe_time: str | None = None
    last_transition_time: str | None = None
    message: str | None = None
    reason: str | None = None
    status: str
    type: str


class VirtualMachineInstanceMigrationPhaseTransitionTimestamp(Model):
    """``VirtualMachineInstanceMigrationPhaseTransitionTimestamp`` of KubeVirt's API."""

    phase: str | None = None
    phase_transition_timestamp: Time | None = None


class VirtualMachineInstanceMigrationStatus(Model):
    """``VirtualMachineInstanceMigrationStatus`` of KubeVirt's API."""

    conditions: list[VirtualMachineInstanceMigrationCondition] | None = None
    migration_state: VirtualMachineInstanceMigrationState | None = None
    phase: str | None = None
    phase_transition_timestamps: list[VirtualMachineInstanceMigrationPhaseTransitionTimestamp] | None = None
    synchronization_addresses: list[str] | None = None


class VirtualMachineInstanceMigration(Model):
    """One live migration of one instance to another node."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    spec: VirtualMachineInstanceMigrationSpec
    status: VirtualMachineInstanceMigrationStatus | None = None
