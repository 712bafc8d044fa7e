"""VirtualMachineInstanceReplicaSet: a number of like instances.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

from polyvisor.api.base import Int32, Model
from polyvisor.api.core.meta import LabelSelector, ObjectMeta
from polyvisor.api.kubevirt.instance import VirtualMachineInstanceTemplateSpec


class VirtualMachineInstanceReplicaSetSpec(Model):
    """``VirtualMachineInstanceReplicaSetSpec`` of KubeVirt's API."""

    paused: bool | None = None
    replicas: Int32 | None = None
    selector: LabelSelector
    template: VirtualMachineInstanceTemplateSpec


class VirtualMachineInstanceReplicaSetCondition(Model):
    """``VirtualMachineInstanceReplicaSetCondition`` of KubeVirt's API."""

    last_probe_time: str | None = None
    last_transition_time: str | None = None
    message: str | None = None
    reason: str | None = None
    status: str
    type: str


class VirtualMachineInstanceReplicaSetStatus(Model):
    """``VirtualMachineInstanceReplicaSetStatus`` of KubeVirt's API."""

    conditions: list[VirtualMachineInstanceReplicaSetCondition] | None = None
    label_selector: str | None = None
    ready_replicas: Int32 | None = None
    replicas: Int32 | None = None


class VirtualMachineInstanceReplicaSet(Model):
    """A number of like instances, kept at that number."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    spec: VirtualMachineInstanceReplicaSetSpec
    status: VirtualMachineInstanceReplicaSetStatus | None = None
