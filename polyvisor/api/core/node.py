"""Nodes.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

from polyvisor.api.base import Model, Quantity
from polyvisor.api.core.meta import Condition, ObjectMeta
from polyvisor.api.core.scheduling import Taint


class NodeSpec(Model):
    """``NodeSpec`` of Kubernetes's API."""

    pod_cidr: str | None = None
    provider_id: str | None = None
    unschedulable: bool | None = None
    taints: list[Taint] | None = None


class NodeAddress(Model):
    """``NodeAddress`` of Kubernetes's API."""

    type: str
    address: str


class NodeSystemInfo(Model):
    """``NodeSystemInfo`` of Kubernetes's API."""

    machine_id: str | None = None
    system_uuid: str | None = None
    boot_id: str | None = None
    kernel_version: str | None = None
    os_image: str | None = None
    container_runtime_version: str | None = None
    kubelet_version: str | None = None
    kube_proxy_version: str | None = None
    operating_system: str | None = None
    architecture: str | None = None


class NodeStatus(Model):
    """``NodeStatus`` of Kubernetes's API."""

    capacity: dict[str, Quantity] | None = None
    allocatable: dict[str, Quantity] | None = None
    conditions: list[Condition] | None = None
    addresses: list[NodeAddress] | None = None
    node_info: NodeSystemInfo | None = None
    phase: str | None = None


class Node(Model):
    """``Node`` of Kubernetes's API."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    spec: NodeSpec | None = None
    status: NodeStatus | None = None
