"""Selectors, affinities, taints and tolerations.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

from typing import Annotated

from polyvisor.api.base import Int32, Int64, Model, OneOf, Time
from polyvisor.api.core.meta import LabelSelector


class NodeSelectorRequirement(Model):
    """``NodeSelectorRequirement`` of Kubernetes's API."""

    key: str
    operator: Annotated[str, OneOf("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")]
    values: list[str] | None = None


class NodeSelectorTerm(Model):
    """``NodeSelectorTerm`` of Kubernetes's API."""

    match_expressions: list[NodeSelectorRequirement] | None = None
    match_fields: list[NodeSelectorRequirement] | None = None


class NodeSelector(Model):
    """``NodeSelector`` of Kubernetes's API."""

    node_selector_terms: list[NodeSelectorTerm]


class PreferredSchedulingTerm(Model):
    """``PreferredSchedulingTerm`` of Kubernetes's API."""

    weight: Int32
    preference: NodeSelectorTerm


class NodeAffinity(Model):
    """``NodeAffinity`` of Kubernetes's API."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    preferred_during_scheduling_ignored_during_execution: list[PreferredSchedulingTerm] | None = None


class PodAffinityTerm(Model):
    """``PodAffinityTerm`` of Kubernetes's API."""

    label_selector: LabelSelector | None = None
    namespaces: list[str] | None = None
    topology_key: str
    namespace_selector: LabelSelector | None = None
    match_label_keys: list[str] | None = None
    mismatch_label_keys: list[str] | None = None


class WeightedPodAffinityTerm(Model):
    """``WeightedPodAffinityTerm`` of Kubernetes's API."""

    weight: Int32
    pod_affinity_term: PodAffinityTerm


class PodAffinity(Model):
    """``PodAffinity`` of Kubernetes's API."""

    required_during_scheduling_ignored_during_execution: list[PodAffinityTerm] | None = None
    preferred_during_scheduling_ignored_during_execution: list[WeightedPodAffinityTerm] | None = None


class PodAntiAffinity(Model):
    """``PodAntiAffinity`` of Kubernetes's API."""

    required_during_scheduling_ignored_during_execution: list[PodAffinityTerm] | None = None
    preferred_during_scheduling_ignored_during_execution: list[WeightedPodAffinityTerm] | None = None


class Affinity(Model):
    """``Affinity`` of Kubernetes's API."""

    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAntiAffinity | None = None


class Taint(Model):
    """``Taint`` of Kubernetes's API."""

    key: str
    value: str | None = None
    effect: Annotated[str, OneOf("NoSchedule", "PreferNoSchedule", "NoExecute")]
    time_added: Time | None = None


class Toleration(Model):
    """``Toleration`` of Kubernetes's API."""

    key: str | None = None
    operator: Annotated[str | None, OneOf("Exists", "Equal", "Lt", "Gt")] = None
    value: str | None = None
    effect: Annotated[str | None, OneOf("NoSchedule", "PreferNoSchedule", "NoExecute")] = None
    toleration_seconds: Int64 | None = None


class TopologySpreadConstraint(Model):
    """``TopologySpreadConstraint`` of Kubernetes's API."""

    max_skew: Int32
    topology_key: str
    when_unsatisfiable: Annotated[str, OneOf("DoNotSchedule", "ScheduleAnyway")]
    label_selector: LabelSelector | None = None
    min_domains: Int32 | None = None
    node_affinity_policy: Annotated[str | None, OneOf("Honor", "Ignore")] = None
    node_taints_policy: Annotated[str | None, OneOf("Honor", "Ignore")] = None
    match_label_keys: list[str] | None = None
