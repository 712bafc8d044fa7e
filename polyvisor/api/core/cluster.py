"""Namespaces, Secrets, ConfigMaps, Events, Leases, ControllerRevisions and CustomResourceDefinitions.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

from typing import Annotated, Any

from polyvisor.api.base import Int32, Int64, Model, OneOf, Time
from polyvisor.api.core.meta import Condition, ObjectMeta, ObjectReference


class ConfigMap(Model):
    """``ConfigMap`` of Kubernetes's API."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    immutable: bool | None = None
    data: dict[str, str] | None = None
    binary_data: dict[str, str] | None = None


class ControllerRevision(Model):
    """A past state of an object, kept by a controller."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    data: Any = None
    revision: Int64


class CustomResourceDefinitionNames(Model):
    """``CustomResourceDefinitionNames`` of Kubernetes's API."""

    plural: str
    singular: str | None = None
    kind: str
    list_kind: str | None = None
    short_names: list[str] | None = None
    categories: list[str] | None = None


class CustomResourceDefinitionSpec(Model):
    """``CustomResourceDefinitionSpec`` of Kubernetes's API."""

    group: str
    scope: Annotated[str, OneOf("Namespaced", "Cluster")]
    names: CustomResourceDefinitionNames
    versions: list[Any]
    conversion: Any = None
    preserve_unknown_fields: bool | None = None


class CustomResourceDefinitionStatus(Model):
    """``CustomResourceDefinitionStatus`` of Kubernetes's API."""

    accepted_names: CustomResourceDefinitionNames | None = None
    conditions: list[Condition] | None = None
    stored_versions: list[str] | None = None


class CustomResourceDefinition(Model):
    """``CustomResourceDefinition`` of Kubernetes's API."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    spec: CustomResourceDefinitionSpec
    status: CustomResourceDefinitionStatus | None = None


class EventSource(Model):
    """``EventSource`` of Kubernetes's API."""

    component: str | None = None
    host: str | None = None


class EventSeries(Model):
    """``EventSeries`` of Kubernetes's API."""

    count: Int32 | None = None
    last_observed_time: Time | None = None


class Event(Model):
    """``Event`` of Kubernetes's API."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta
    involved_object: ObjectReference
    reason: str | None = None
    message: str | None = None
    source: EventSource | None = None
    first_timestamp: Time | None = None
    last_timestamp: Time | None = None
    count: Int32 | None = None
    type: str | None = None
    event_time: Time | None = None
    series: EventSeries | None = None
    action: str | None = None
    related: ObjectReference | None = None
    reporting_component: str | None = None
    reporting_instance: str | None = None


class LeaseSpec(Model):
    """``LeaseSpec`` of Kubernetes's API."""

    holder_identity: str | None = None
    lease_duration_seconds: Int32 | None = None
    acquire_time: Time | None = None
    renew_time: Time | None = None
    lease_transitions: Int32 | None = None


class Lease(Model):
    """``Lease`` of Kubernetes's API."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    spec: LeaseSpec | None = None


class NamespaceSpec(Model):
    """``NamespaceSpec`` of Kubernetes's API."""

    finalizers: list[str] | None = None


class NamespaceStatus(Model):
    """``NamespaceStatus`` of Kubernetes's API."""

    phase: str | None = None
    conditions: list[Condition] | None = None


class Namespace(Model):
    """``Namespace`` of Kubernetes's API."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    spec: NamespaceSpec | None = None
    status: NamespaceStatus | None = None


class NetworkAttachmentDefinitionSpec(Model):
    """``NetworkAttachmentDefinitionSpec`` of Kubernetes's API."""

    config: str | None = None


class NetworkAttachmentDefinition(Model):
    """``NetworkAttachmentDefinition`` of Kubernetes's API."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    spec: NetworkAttachmentDefinitionSpec | None = None


class Secret(Model):
    """``Secret`` of Kubernetes's API."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    type: str | None = None
    immutable: bool | None = None
    data: dict[str, str] | None = None
    string_data: dict[str, str] | None = None
