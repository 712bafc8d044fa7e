"""Pods, as far as a launcher needs them.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

from typing import Annotated, Any

from polyvisor.api.base import Int32, Int64, IntOrString, Model, OneOf, Quantity, Time
from polyvisor.api.core.meta import (
    Condition,
    ContainerResources,
    EnvVar,
    LocalObjectReference,
    ObjectMeta,
    ObjectReference,
)
from polyvisor.api.core.scheduling import Affinity, Toleration, TopologySpreadConstraint
from polyvisor.api.core.storage import ClaimReference, VolumeMount


class Binding(Model):
    """``Binding`` of Kubernetes's API."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    target: ObjectReference


class ContainerPort(Model):
    """``ContainerPort`` of Kubernetes's API."""

    name: str | None = None
    host_port: Int32 | None = None
    container_port: Int32
    protocol: Annotated[str | None, OneOf("TCP", "UDP", "SCTP")] = None
    host_ip: str | None = None


class Container(Model):
    """``Container`` of Kubernetes's API."""

    name: str
    image: str | None = None
    command: list[str] | None = None
    args: list[str] | None = None
    working_dir: str | None = None
    env: list[EnvVar] | None = None
    ports: list[ContainerPort] | None = None
    resources: ContainerResources | None = None
    volume_mounts: list[VolumeMount] | None = None
    image_pull_policy: Annotated[str | None, OneOf("Always", "IfNotPresent", "Never")] = None
    security_context: Any = None


class ContainerStatus(Model):
    """``ContainerStatus`` of Kubernetes's API."""

    name: str
    ready: bool
    started: bool | None = None
    restart_count: Int32
    image: str
    image_id: str
    container_id: str | None = None
    state: Any = None
    last_state: Any = None


class ObjectFieldSelector(Model):
    """``ObjectFieldSelector`` of Kubernetes's API."""

    api_version: str | None = None
    field_path: str


class ResourceFieldSelector(Model):
    """``ResourceFieldSelector`` of Kubernetes's API."""

    container_name: str | None = None
    resource: str
    divisor: Quantity | None = None


class DownwardAPIVolumeFile(Model):
    """``DownwardAPIVolumeFile`` of Kubernetes's API."""

    path: str
    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    mode: Int32 | None = None


class ExecAction(Model):
    """``ExecAction`` of Kubernetes's API."""

    command: list[str] | None = None


class HTTPHeader(Model):
    """``HTTPHeader`` of Kubernetes's API."""

    name: str
    value: str


class HTTPGetAction(Model):
    """``HTTPGetAction`` of Kubernetes's API."""

    path: str | None = None
    port: IntOrString
    host: str | None = None
    scheme: Annotated[str | None, OneOf("HTTP", "HTTPS")] = None
    http_headers: list[HTTPHeader] | None = None


class PodVolume(Model):
    """``PodVolume`` of Kubernetes's API."""

    name: str
    empty_dir: Any = None
    host_path: Any = None
    persistent_volume_claim: ClaimReference | None = None
    secret: Any = None
    config_map: Any = None


class PodReadinessGate(Model):
    """``PodReadinessGate`` of Kubernetes's API."""

    condition_type: str


class PodSpec(Model):
    """``PodSpec`` of Kubernetes's API."""

    containers: list[Container]
    init_containers: list[Container] | None = None
    volumes: list[PodVolume] | None = None
    restart_policy: Annotated[str | None, OneOf("Always", "OnFailure", "Never")] = None
    termination_grace_period_seconds: Int64 | None = None
    active_deadline_seconds: Int64 | None = None
    node_name: str | None = None
    node_selector: dict[str, str] | None = None
    affinity: Affinity | None = None
    tolerations: list[Toleration] | None = None
    topology_spread_constraints: list[TopologySpreadConstraint] | None = None
    scheduler_name: str | None = None
    priority_class_name: str | None = None
    priority: Int32 | None = None
    hostname: str | None = None
    subdomain: str | None = None
    readiness_gates: list[PodReadinessGate] | None = None
    service_account_name: str | None = None
    automount_service_account_token: bool | None = None
    enable_service_links: bool | None = None
    security_context: Any = None
    image_pull_secrets: list[LocalObjectReference] | None = None
    overhead: dict[str, Quantity] | None = None


class PodIP(Model):
    """``PodIP`` of Kubernetes's API."""

    ip: str


class PodStatus(Model):
    """``PodStatus`` of Kubernetes's API."""

    phase: str | None = None
    conditions: list[Condition] | None = None
    message: str | None = None
    reason: str | None = None
    host_ip: str | None = None
    pod_ip: str | None = None
    pod_ips: list[PodIP] | None = None
    start_time: Time | None = None
    container_statuses: list[ContainerStatus] | None = None
    init_container_statuses: list[ContainerStatus] | None = None
    qos_class: str | None = None
    nominated_node_name: str | None = None


class Pod(Model):
    """``Pod`` of Kubernetes's API."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    spec: PodSpec | None = None
    status: PodStatus | None = None


class PodDNSConfigOption(Model):
    """``PodDNSConfigOption`` of Kubernetes's API."""

    name: str | None = None
    value: str | None = None


class PodDNSConfig(Model):
    """``PodDNSConfig`` of Kubernetes's API."""

    nameservers: list[str] | None = None
    searches: list[str] | None = None
    options: list[PodDNSConfigOption] | None = None


class TCPSocketAction(Model):
    """``TCPSocketAction`` of Kubernetes's API."""

    port: IntOrString
    host: str | None = None
