"""VirtualMachinePool: a number of like virtual machines.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

from typing import Annotated

from polyvisor.api.base import Duration, Int32, Int64, IntOrString, Model, OneOf
from polyvisor.api.core.meta import LabelSelector, ObjectMeta
from polyvisor.api.core.scheduling import NodeSelectorRequirement
from polyvisor.api.kubevirt.machine import VirtualMachineSpec


class VirtualMachineOpportunisticUpdateStrategy(Model):
    """``VirtualMachineOpportunisticUpdateStrategy`` of KubeVirt's API."""


class VirtualMachinePoolAutohealingStrategy(Model):
    """``VirtualMachinePoolAutohealingStrategy`` of KubeVirt's API."""

    min_failing_to_start_duration: Duration | None = None
    start_up_failure_threshold: Int64 | None = None


class VirtualMachinePoolNameGeneration(Model):
    """``VirtualMachinePoolNameGeneration`` of KubeVirt's API."""

    append_index_to_config_map_refs: bool | None = None
    append_index_to_secret_refs: bool | None = None


class VirtualMachinePoolOpportunisticScaleInStrategy(Model):
    """``VirtualMachinePoolOpportunisticScaleInStrategy`` of KubeVirt's API."""

    state_preservation: Annotated[str | None, OneOf("Disabled", "Offline", "Online")] = None


class VirtualMachinePoolSelectors(Model):
    """``VirtualMachinePoolSelectors`` of KubeVirt's API."""

    label_selector: LabelSelector | None = None
    node_selector_requirement_matcher: list[NodeSelectorRequirement] | None = None


class VirtualMachinePoolSelectionPolicy(Model):
    """``VirtualMachinePoolSelectionPolicy`` of KubeVirt's API."""

    selectors: VirtualMachinePoolSelectors | None = None
    sort_policy: Annotated[str | None, OneOf("AscendingOrder", "DescendingOrder", "Newest", "Oldest", "Random")] = None


class VirtualMachinePoolProactiveScaleInStrategy(Model):
    """``VirtualMachinePoolProactiveScaleInStrategy`` of KubeVirt's API."""

    selection_policy: VirtualMachinePoolSelectionPolicy | None = None
    state_preservation: Annotated[str | None, OneOf("Disabled", "Offline", "Online")] = None


class VirtualMachinePoolUnmanagedStrategy(Model):
    """``VirtualMachinePoolUnmanagedStrategy`` of KubeVirt's API."""


class VirtualMachinePoolScaleInStrategy(Model):
    """``VirtualMachinePoolScaleInStrategy`` of KubeVirt's API."""

    opportunistic: VirtualMachinePoolOpportunisticScaleInStrategy | None = None
    proactive: VirtualMachinePoolProactiveScaleInStrategy | None = None
    unmanaged: VirtualMachinePoolUnmanagedStrategy | None = None


class VirtualMachinePoolProactiveUpdateStrategy(Model):
    """``VirtualMachinePoolProactiveUpdateStrategy`` of KubeVirt's API."""

    selection_policy: VirtualMachinePoolSelectionPolicy | None = None


class VirtualMachinePoolUpdateStrategy(Model):
    """``VirtualMachinePoolUpdateStrategy`` of KubeVirt's API."""

    opportunistic: VirtualMachineOpportunisticUpdateStrategy | None = None
    proactive: VirtualMachinePoolProactiveUpdateStrategy | None = None
    unmanaged: VirtualMachinePoolUnmanagedStrategy | None = None


class VirtualMachineTemplateSpec(Model):
    """``VirtualMachineTemplateSpec`` of KubeVirt's API."""

    metadata: ObjectMeta | None = None
    spec: VirtualMachineSpec | None = None


class VirtualMachinePoolSpec(Model):
    """``VirtualMachinePoolSpec`` of KubeVirt's API."""

    autohealing: VirtualMachinePoolAutohealingStrategy | None = None
    max_unavailable: IntOrString | None = None
    name_generation: VirtualMachinePoolNameGeneration | None = None
    paused: bool | None = None
    replicas: Int32 | None = None
    scale_in_strategy: VirtualMachinePoolScaleInStrategy | None = None
    selector: LabelSelector
    update_strategy: VirtualMachinePoolUpdateStrategy | None = None
    virtual_machine_template: VirtualMachineTemplateSpec


class VirtualMachinePoolCondition(Model):
    """``VirtualMachinePoolCondition`` of KubeVirt's API."""

    last_probe_time: str | None = None
    last_transition_time: str | None = None
    message: str | None = None
    reason: str | None = None
    status: str
    type: str


class VirtualMachinePoolStatus(Model):
    """``VirtualMachinePoolStatus`` of KubeVirt's API."""

    conditions: list[VirtualMachinePoolCondition] | None = None
    label_selector: str | None = None
    ready_replicas: Int32 | None = None
    replicas: Int32 | None = None


class VirtualMachinePool(Model):
    """A number of like virtual machines, kept at that number."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    spec: VirtualMachinePoolSpec
    status: VirtualMachinePoolStatus | None = None
