"""What every Kubernetes object carries, and the small types that refer to others.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

from typing import Annotated, Any

from polyvisor.api.base import Int32, Int64, Model, OneOf, Quantity, Time


class LabelSelectorRequirement(Model):
    """``LabelSelectorRequirement`` of Kubernetes's API."""

    key: str
    operator: Annotated[str, OneOf("In", "NotIn", "Exists", "DoesNotExist")]
    values: list[str] | None = None


class LabelSelector(Model):
    """``LabelSelector`` of Kubernetes's API."""

    match_labels: dict[str, str] | None = None
    match_expressions: list[LabelSelectorRequirement] | None = None


class OwnerReference(Model):
    """``OwnerReference`` of Kubernetes's API."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ManagedFieldsEntry(Model):
    """``ManagedFieldsEntry`` of Kubernetes's API."""

    manager: str | None = None
    operation: Annotated[str | None, OneOf("Apply", "Update")] = None
    api_version: str | None = None
    time: Time | None = None
    fields_type: str | None = None
    fields_v1: Any = None
    subresource: str | None = None


class ObjectMeta(Model):
    """``ObjectMeta`` of Kubernetes's API."""

    name: str | None = None
    generate_name: str | None = None
    namespace: str | None = None
    self_link: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    generation: Int64 | None = None
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    deletion_grace_period_seconds: Int64 | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[OwnerReference] | None = None
    finalizers: list[str] | None = None
    managed_fields: list[ManagedFieldsEntry] | None = None


class ObjectReference(Model):
    """``ObjectReference`` of Kubernetes's API."""

    api_version: str | None = None
    kind: str | None = None
    namespace: str | None = None
    name: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    field_path: str | None = None


class Condition(Model):
    """``Condition`` of Kubernetes's API."""

    type: str
    status: Annotated[str, OneOf("True", "False", "Unknown")]
    reason: str | None = None
    message: str | None = None
    last_transition_time: Time | None = None
    last_probe_time: Time | None = None
    observed_generation: Int64 | None = None


class EnvVar(Model):
    """``EnvVar`` of Kubernetes's API."""

    name: str
    value: str | None = None
    value_from: Any = None


class ContainerResources(Model):
    """``ResourceRequirements`` of Kubernetes's API."""

    limits: dict[str, Quantity] | None = None
    requests: dict[str, Quantity] | None = None


class ListMeta(Model):
    """``ListMeta`` of Kubernetes's API."""

    resource_version: str | None = None
    continue_: str | None = None
    remaining_item_count: Int64 | None = None
    self_link: str | None = None


class LocalObjectReference(Model):
    """``LocalObjectReference`` of Kubernetes's API."""

    name: str | None = None


class TypedLocalObjectReference(Model):
    """``TypedLocalObjectReference`` of Kubernetes's API."""

    api_group: str | None = None
    kind: str
    name: str


class TypedObjectReference(Model):
    """``TypedObjectReference`` of Kubernetes's API."""

    api_group: str | None = None
    kind: str
    name: str
    namespace: str | None = None


class StatusCause(Model):
    """``StatusCause`` of Kubernetes's API."""

    field: str | None = None
    message: str | None = None
    reason: str | None = None


class StatusDetails(Model):
    """``StatusDetails`` of Kubernetes's API."""

    name: str | None = None
    group: str | None = None
    kind: str | None = None
    uid: str | None = None
    causes: list[StatusCause] | None = None
    retry_after_seconds: Int32 | None = None


class Status(Model):
    """``Status`` of Kubernetes's API."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ListMeta | None = None
    status: Annotated[str | None, OneOf("Success", "Failure")] = None
    message: str | None = None
    reason: str | None = None
    details: StatusDetails | None = None
    code: Int32 | None = None
