"""KubeVirt: the cluster's configuration and the state of the installation.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

from typing import Annotated

from polyvisor.api.base import Duration, Int32, Int64, Model, OneOf, Quantity
from polyvisor.api.core.meta import LabelSelector, LocalObjectReference, ObjectMeta
from polyvisor.api.core.scheduling import Affinity, Toleration
from polyvisor.api.kubevirt.hypervisor import HypervisorDefault
from polyvisor.api.kubevirt.migration import MigrationConfiguration
from polyvisor.api.kubevirt.network import NetworkConfiguration
from polyvisor.api.kubevirt.settings import (
    ArchConfiguration,
    ChangedBlockTrackingSelectors,
    CommonInstancetypesDeployment,
    ConfidentialComputeConfiguration,
    DeveloperConfiguration,
    HypervisorConfiguration,
    InstancetypeConfiguration,
    KSMConfiguration,
    LiveUpdateConfiguration,
    MediatedDevicesConfiguration,
    PermittedHostDevices,
    PersistentReservationConfiguration,
    ReloadableComponentConfiguration,
    SeccompConfiguration,
    SMBiosConfiguration,
    SupportContainerResources,
    TLSConfiguration,
    VirtTemplateDeployment,
    VirtualMachineOptions,
)


class CertConfig(Model):
    """``CertConfig`` of KubeVirt's API."""

    duration: Duration | None = None
    renew_before: Duration | None = None


class NodePlacement(Model):
    """``NodePlacement`` of KubeVirt's API."""

    affinity: Affinity | None = None
    node_selector: dict[str, str] | None = None
    tolerations: list[Toleration] | None = None


class ComponentConfig(Model):
    """``ComponentConfig`` of KubeVirt's API."""

    node_placement: NodePlacement | None = None
    replicas: Int32 | None = None


class Flags(Model):
    """``Flags`` of KubeVirt's API."""

    api: dict[str, str] | None = None
    controller: dict[str, str] | None = None
    handler: dict[str, str] | None = None


class CustomizeComponentsPatch(Model):
    """``CustomizeComponentsPatch`` of KubeVirt's API."""

    patch: str
    resource_name: str
    resource_type: str
    type: str


class CustomizeComponents(Model):
    """``CustomizeComponents`` of KubeVirt's API."""

    flags: Flags | None = None
    patches: list[CustomizeComponentsPatch] | None = None


class GenerationStatus(Model):
    """``GenerationStatus`` of KubeVirt's API."""

    group: str
    hash: str | None = None
    last_generation: Int64
    name: str
    namespace: str | None = None
    resource: str


class KubeVirtSelfSignConfiguration(Model):
    """``KubeVirtSelfSignConfiguration`` of KubeVirt's API."""

    ca: CertConfig | None = None
    ca_overlap_interval: Duration | None = None
    ca_rotate_interval: Duration | None = None
    cert_rotate_interval: Duration | None = None
    server: CertConfig | None = None


class KubeVirtCertificateRotateStrategy(Model):
    """``KubeVirtCertificateRotateStrategy`` of KubeVirt's API."""

    self_signed: KubeVirtSelfSignConfiguration | None = None


class KubeVirtConfiguration(Model):
    """``KubeVirtConfiguration`` of KubeVirt's API."""

    additional_guest_memory_overhead_ratio: str | None = None
    api_configuration: ReloadableComponentConfiguration | None = None
    architecture_configuration: ArchConfiguration | None = None
    auto_cpu_limit_namespace_label_selector: LabelSelector | None = None
    changed_block_tracking_label_selectors: ChangedBlockTrackingSelectors | None = None
    common_instancetypes_deployment: CommonInstancetypesDeployment | None = None
    confidential_compute: ConfidentialComputeConfiguration | None = None
    controller_configuration: ReloadableComponentConfiguration | None = None
    cpu_model: str | None = None
    cpu_request: Quantity | None = None
    default_runtime_class: str | None = None
    developer_configuration: DeveloperConfiguration | None = None
    emulated_machines: list[str] | None = None
    eviction_strategy: Annotated[str | None, OneOf("None", "LiveMigrate", "LiveMigrateIfPossible", "External")] = None
    handler_configuration: ReloadableComponentConfiguration | None = None
    hypervisors: list[HypervisorConfiguration] | None = None
    image_pull_policy: Annotated[str | None, OneOf("Always", "IfNotPresent", "Never")] = None
    instancetype: InstancetypeConfiguration | None = None
    ksm_configuration: KSMConfiguration | None = None
    live_update_configuration: LiveUpdateConfiguration | None = None
    machine_type: str | None = None
    mediated_devices_configuration: MediatedDevicesConfiguration | None = None
    mem_balloon_stats_period: Int64 | None = None
    migrations: MigrationConfiguration | None = None
    min_cpu_model: str | None = None
    network: NetworkConfiguration | None = None
    obsolete_cpu_models: dict[str, bool] | None = None
    ovmf_path: str | None = None
    permitted_host_devices: PermittedHostDevices | None = None
    persistent_reservation_configuration: PersistentReservationConfiguration | None = None
    role_aggregation_strategy: Annotated[str | None, OneOf("AggregateToDefault", "Manual")] = None
    seccomp_configuration: SeccompConfiguration | None = None
    selinux_launcher_type: str | None = None
    smbios: SMBiosConfiguration | None = None
    support_container_resources: list[SupportContainerResources] | None = None
    supported_guest_agent_versions: list[str] | None = None
    tls_configuration: TLSConfiguration | None = None
    virt_template_deployment: VirtTemplateDeployment | None = None
    virtual_machine_instances_per_node: Int32 | None = None
    virtual_machine_options: VirtualMachineOptions | None = None
    vm_rollout_strategy: Annotated[str | None, OneOf("Stage", "LiveUpdate")] = None
    vm_state_storage_class: str | None = None
    webhook_configuration: ReloadableComponentConfiguration | None = None
    hypervisor_defaults: list[HypervisorDefault] | None = None


class KubeVirtWorkloadUpdateStrategy(Model):
    """``KubeVirtWorkloadUpdateStrategy`` of KubeVirt's API."""

    batch_eviction_interval: Duration | None = None
    batch_eviction_size: Int32 | None = None
    workload_update_methods: list[str] | None = None


class KubeVirtSpec(Model):
    """``KubeVirtSpec`` of KubeVirt's API."""

    certificate_rotate_strategy: KubeVirtCertificateRotateStrategy | None = None
    configuration: KubeVirtConfiguration | None = None
    customize_components: CustomizeComponents | None = None
    image_pull_policy: Annotated[str | None, OneOf("Always", "IfNotPresent", "Never")] = None
    image_pull_secrets: list[LocalObjectReference] | None = None
    image_registry: str | None = None
    image_tag: str | None = None
    infra: ComponentConfig | None = None
    monitor_account: str | None = None
    monitor_namespace: str | None = None
    product_component: str | None = None
    product_name: str | None = None
    product_version: str | None = None
    service_monitor_namespace: str | None = None
    synchronization_port: str | None = None
    uninstall_strategy: Annotated[str | None, OneOf("RemoveWorkloads", "BlockUninstallIfWorkloadsExist")] = None
    workload_update_strategy: KubeVirtWorkloadUpdateStrategy | None = None
    workloads: ComponentConfig | None = None


class KubeVirtCondition(Model):
    """``KubeVirtCondition`` of KubeVirt's API."""

    last_probe_time: str | None = None
    last_transition_time: str | None = None
    message: str | None = None
    reason: str | None = None
    status: str
    type: str


class KubeVirtStatus(Model):
    """``KubeVirtStatus`` of KubeVirt's API."""

    conditions: list[KubeVirtCondition] | None = None
    default_architecture: str | None = None
    generations: list[GenerationStatus] | None = None
    observed_deployment_config: str | None = None
    observed_deployment_id: str | None = None
    observed_generation: Int64 | None = None
    observed_kube_virt_registry: str | None = None
    observed_kube_virt_version: str | None = None
    operator_version: str | None = None
    outdated_virtual_machine_instance_workloads: Int32 | None = None
    phase: Annotated[str | None, OneOf("Deploying", "Deployed", "Deleting", "Deleted")] = None
    synchronization_addresses: list[str] | None = None
    target_deployment_config: str | None = None
    target_deployment_id: str | None = None
    target_kube_virt_registry: str | None = None
    target_kube_virt_version: str | None = None


class KubeVirt(Model):
    """The configuration of the cluster's virtual machines, and the state of the installation."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    spec: KubeVirtSpec
    status: KubeVirtStatus | None = None
