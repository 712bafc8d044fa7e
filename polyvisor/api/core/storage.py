"""PersistentVolumeClaims.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

from typing import Annotated

from polyvisor.api.base import Model, OneOf, Quantity
from polyvisor.api.core.meta import (
    Condition,
    LabelSelector,
    ObjectMeta,
    TypedLocalObjectReference,
    TypedObjectReference,
)


class VolumeMount(Model):
    """``VolumeMount`` of Kubernetes's API."""

    name: str
    mount_path: str
    sub_path: str | None = None
    read_only: bool | None = None
    mount_propagation: str | None = None


class VolumeResourceRequirements(Model):
    """``VolumeResourceRequirements`` of Kubernetes's API."""

    limits: dict[str, Quantity] | None = None
    requests: dict[str, Quantity] | None = None


class PersistentVolumeClaimSpec(Model):
    """``PersistentVolumeClaimSpec`` of Kubernetes's API."""

    access_modes: list[str] | None = None
    selector: LabelSelector | None = None
    resources: VolumeResourceRequirements | None = None
    volume_name: str | None = None
    storage_class_name: str | None = None
    volume_mode: Annotated[str | None, OneOf("Block", "Filesystem")] = None
    data_source: TypedLocalObjectReference | None = None
    data_source_ref: TypedObjectReference | None = None
    volume_attributes_class_name: str | None = None


class PersistentVolumeClaimStatus(Model):
    """``PersistentVolumeClaimStatus`` of Kubernetes's API."""

    phase: str | None = None
    access_modes: list[str] | None = None
    capacity: dict[str, Quantity] | None = None
    conditions: list[Condition] | None = None


class PersistentVolumeClaim(Model):
    """``PersistentVolumeClaim`` of Kubernetes's API."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    spec: PersistentVolumeClaimSpec | None = None
    status: PersistentVolumeClaimStatus | None = None


class ClaimReference(Model):
    """``PersistentVolumeClaimVolumeSource`` of Kubernetes's API."""

    claim_name: str
    read_only: bool | None = None
