"""HypervisorEndpoint: a hypervisor on a host without a kubelet, which a libvirt connection reaches.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

from typing import Annotated

from polyvisor.api.base import Int32, Int64, Model, OneOf, Quantity, Time
from polyvisor.api.core.meta import LabelSelector, ObjectMeta


class EndpointCapacity(Model):
    """Amounts of an endpoint's resources."""

    cpu: Quantity | None = None
    memory: Quantity | None = None
    pods: Quantity | None = None


class EndpointCondition(Model):
    """One aspect of an endpoint's state."""

    type: Annotated[
        str,
        OneOf(
            "Ready",
            "Reachable",
            "Authenticated",
            "Privileged",
            "Supported",
            "InventorySynced",
            "Schedulable",
            "Insecure",
        ),
    ]
    status: Annotated[str, OneOf("True", "False", "Unknown")]
    reason: str
    message: str | None = None
    suggestion: str | None = None
    last_transition_time: Time | None = None
    observed_generation: Int64 | None = None


class EndpointSecretReference(Model):
    """``EndpointSecretReference`` of Polyvisor's API."""

    name: str


class EndpointCredentials(Model):
    """Where an endpoint's credentials are."""

    secret_ref: EndpointSecretReference


class EndpointSecretVersion(Model):
    """A version of a Secret."""

    name: str
    resource_version: str


class EndpointCredentialsStatus(Model):
    """Versions of an endpoint's Secret."""

    good: EndpointSecretVersion | None = None
    tried: EndpointSecretVersion | None = None


class EndpointDomains(Model):
    """Number of domains on a host."""

    managed: Int32
    foreign: Int32


class EndpointNamespaces(Model):
    """Namespaces that may use an endpoint."""

    selector: LabelSelector


class EndpointNetwork(Model):
    """A network of virtual machines that is a network of the host."""

    name: str
    network: str
    cidrs: list[str] | None = None
    reachable: bool | None = None


class EndpointStorage(Model):
    """A StorageClass that is a storage pool of the host."""

    storage_class: str
    pool: str
    default_for_images: bool | None = None


class EndpointTLS(Model):
    """How the host's TLS certificate is verified."""

    ca_bundle: str | None = None
    fingerprint: str | None = None
    insecure: Annotated[str | None, OneOf("Never", "Allow")] = None


class HypervisorEndpointSpec(Model):
    """Connection, credentials and mappings of an endpoint."""

    uri: str
    credentials: EndpointCredentials | None = None
    tls: EndpointTLS | None = None
    allowed_namespaces: EndpointNamespaces | None = None
    storage: list[EndpointStorage] | None = None
    networks: list[EndpointNetwork] | None = None
    capacity: EndpointCapacity | None = None
    management: Annotated[str | None, OneOf("Full", "Observe")] = None


class HypervisorEndpointStatus(Model):
    """What was last seen of an endpoint."""

    observed_generation: Int64 | None = None
    driver: str | None = None
    libvirt_version: str | None = None
    hypervisor_version: str | None = None
    host_name: str | None = None
    host_uuid: str | None = None
    capacity: EndpointCapacity | None = None
    allocatable: EndpointCapacity | None = None
    domains: EndpointDomains | None = None
    credentials: EndpointCredentialsStatus | None = None
    conditions: list[EndpointCondition] | None = None


class HypervisorEndpoint(Model):
    """A hypervisor host that runs no kubelet, and how libvirt reaches it."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    spec: HypervisorEndpointSpec
    status: HypervisorEndpointStatus | None = None
