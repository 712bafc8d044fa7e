"""The names by which a Node tells what it has to give: devices, CPUs, machine types, and what works there.

Like :mod:`polyvisor.api.names`, of which this is the part that only nodes, their agents and placement speak of.
"""

from __future__ import annotations

from polyvisor.api.quantity import format_quantity

DEVICE_PREFIX = "devices.kubevirt.io/"
DEVICES = {
    "kvm": "/dev/kvm",
    "tun": "/dev/net/tun",
    "vhost-net": "/dev/vhost-net",
    "vhost-vsock": "/dev/vhost-vsock",
}
"""What Pods can ask a node for below that prefix, and the device node that they get."""

CPU_MANAGER_LABEL = "cpumanager"
"""On a Node: whether it hands out whole CPUs."""

HUGE_PAGES_PREFIX = "hugepages-"


def huge_pages(size: int) -> str:
    """Return Kubernetes' name of the memory in huge pages of a size in bytes, as a resource."""
    return f"{HUGE_PAGES_PREFIX}{format_quantity(size)}"


DRIVERS_ANNOTATION = "hypervisor.kubevirt.io/drivers"
"""On a Node: what each driver's probe found, as JSON (:mod:`polyvisor.agent.node.probing`)."""

DRIVERS_PATH = "/polyvisor/drivers"
"""Of the standalone API server: POST tries this machine's drivers again, and answers with that report."""

DRIVERS_CONDITION = "HypervisorsWork"
"""Condition of a Node: what works there, and why what does not."""

CPU_MODEL_PREFIX = "cpu-model.node.kubevirt.io/"
CPU_MIGRATION_PREFIX = "cpu-model-migration.node.kubevirt.io/"
CPU_FEATURE_PREFIX = "cpu-feature.node.kubevirt.io/"
CPU_VENDOR_PREFIX = "cpu-vendor.node.kubevirt.io/"
HOST_MODEL_PREFIX = "host-model-cpu.node.kubevirt.io/"
HOST_FEATURE_PREFIX = "host-model-required-features.node.kubevirt.io/"
MACHINE_TYPE_PREFIX = "machine-type.node.kubevirt.io/"
CPU_PREFIXES = (
    CPU_MODEL_PREFIX,
    CPU_MIGRATION_PREFIX,
    CPU_FEATURE_PREFIX,
    CPU_VENDOR_PREFIX,
    HOST_MODEL_PREFIX,
    HOST_FEATURE_PREFIX,
    MACHINE_TYPE_PREFIX,
)
"""Labels that say what CPUs and machine types a node's guests can have."""
SKIP_LABELS_ANNOTATION = "node-labeller.kubevirt.io/skip-node"
"""On a Node: its labels of CPUs and machine types are somebody else's."""
ENDPOINT_LABEL = "hypervisor.kubevirt.io/endpoint"
"""On the Node that stands for a host without a kubelet: its HypervisorEndpoint."""
ENDPOINT_CSI_DRIVER = "endpoint.hypervisor.kubevirt.io"
"""The driver of PersistentVolumes that are disks on such a host."""
