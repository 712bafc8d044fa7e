"""DataVolumes, as templates of a VirtualMachine name them.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

from typing import Annotated

from polyvisor.api.base import Model, OneOf
from polyvisor.api.core.meta import LabelSelector, ObjectMeta, TypedLocalObjectReference, TypedObjectReference
from polyvisor.api.core.storage import PersistentVolumeClaimSpec, VolumeResourceRequirements


class CdiDataVolumeCheckpoint(Model):
    """``DataVolumeCheckpoint`` of KubeVirt's API."""

    current: str
    previous: str


class CdiDataVolumeBlankImage(Model):
    """``DataVolumeBlankImage`` of KubeVirt's API."""


class CdiDataVolumeSourceGCS(Model):
    """``DataVolumeSourceGCS`` of KubeVirt's API."""

    secret_ref: str | None = None
    url: str


class CdiDataVolumeSourceHTTP(Model):
    """``DataVolumeSourceHTTP`` of KubeVirt's API."""

    cert_config_map: str | None = None
    extra_headers: list[str] | None = None
    secret_extra_headers: list[str] | None = None
    secret_ref: str | None = None
    url: str


class CdiDataVolumeSourceImageIO(Model):
    """``DataVolumeSourceImageIO`` of KubeVirt's API."""

    cert_config_map: str | None = None
    disk_id: str
    insecure_skip_verify: bool | None = None
    secret_ref: str | None = None
    url: str


class CdiDataVolumeSourcePVC(Model):
    """``DataVolumeSourcePVC`` of KubeVirt's API."""

    name: str
    namespace: str


class CdiPlatformOptions(Model):
    """``PlatformOptions`` of KubeVirt's API."""

    architecture: str | None = None


class CdiDataVolumeSourceRegistry(Model):
    """``DataVolumeSourceRegistry`` of KubeVirt's API."""

    cert_config_map: str | None = None
    image_stream: str | None = None
    platform: CdiPlatformOptions | None = None
    pull_method: str | None = None
    secret_ref: str | None = None
    url: str | None = None


class CdiDataVolumeSourceS3(Model):
    """``DataVolumeSourceS3`` of KubeVirt's API."""

    cert_config_map: str | None = None
    secret_ref: str | None = None
    url: str


class CdiDataVolumeSourceSnapshot(Model):
    """``DataVolumeSourceSnapshot`` of KubeVirt's API."""

    name: str
    namespace: str


class CdiDataVolumeSourceUpload(Model):
    """``DataVolumeSourceUpload`` of KubeVirt's API."""


class CdiDataVolumeSourceVDDK(Model):
    """``DataVolumeSourceVDDK`` of KubeVirt's API."""

    backing_file: str | None = None
    extra_args: str | None = None
    init_image_url: str | None = None
    secret_ref: str | None = None
    thumbprint: str | None = None
    url: str | None = None
    uuid: str | None = None


class CdiDataVolumeSource(Model):
    """``DataVolumeSource`` of KubeVirt's API."""

    blank: CdiDataVolumeBlankImage | None = None
    gcs: CdiDataVolumeSourceGCS | None = None
    http: CdiDataVolumeSourceHTTP | None = None
    imageio: CdiDataVolumeSourceImageIO | None = None
    pvc: CdiDataVolumeSourcePVC | None = None
    registry: CdiDataVolumeSourceRegistry | None = None
    s3: CdiDataVolumeSourceS3 | None = None
    snapshot: CdiDataVolumeSourceSnapshot | None = None
    upload: CdiDataVolumeSourceUpload | None = None
    vddk: CdiDataVolumeSourceVDDK | None = None


class CdiDataVolumeSourceRef(Model):
    """``DataVolumeSourceRef`` of KubeVirt's API."""

    kind: str
    name: str
    namespace: str | None = None


class CdiStorageSpec(Model):
    """``StorageSpec`` of KubeVirt's API."""

    access_modes: list[str] | None = None
    data_source: TypedLocalObjectReference | None = None
    data_source_ref: TypedObjectReference | None = None
    resources: VolumeResourceRequirements | None = None
    selector: LabelSelector | None = None
    storage_class_name: str | None = None
    volume_mode: Annotated[str | None, OneOf("Block", "Filesystem", "FromStorageProfile")] = None
    volume_name: str | None = None


class CdiDataVolumeSpec(Model):
    """``DataVolumeSpec`` of KubeVirt's API."""

    checkpoints: list[CdiDataVolumeCheckpoint] | None = None
    content_type: str | None = None
    final_checkpoint: bool | None = None
    preallocation: bool | None = None
    priority_class_name: str | None = None
    pvc: PersistentVolumeClaimSpec | None = None
    source: CdiDataVolumeSource | None = None
    source_ref: CdiDataVolumeSourceRef | None = None
    storage: CdiStorageSpec | None = None


class DataVolumeTemplateDummyStatus(Model):
    """``DataVolumeTemplateDummyStatus`` of KubeVirt's API."""


class DataVolumeTemplateSpec(Model):
    """``DataVolumeTemplateSpec`` of KubeVirt's API."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    spec: CdiDataVolumeSpec
    status: DataVolumeTemplateDummyStatus | None = None
