"""DataVolumes and the settings of what fills them, as CDI has them.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

from typing import Annotated

from polyvisor.api.base import Int32, Model, OneOf, Time
from polyvisor.api.core.meta import ObjectMeta
from polyvisor.api.kubevirt.datavolume import CdiDataVolumeSpec


class CDIConfigSpec(Model):
    """``CDIConfigSpec`` of Polyvisor's API."""

    insecure_registries: list[str] | None = None
    upload_proxy_url_override: str | None = None


class CDIConfigStatus(Model):
    """``CDIConfigStatus`` of Polyvisor's API."""

    upload_proxy_url: str | None = None
    filesystem_overhead: dict[str, str] | None = None


class CDIConfig(Model):
    """``CDIConfig`` of Polyvisor's API."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    spec: CDIConfigSpec | None = None
    status: CDIConfigStatus | None = None


class DataVolumeCondition(Model):
    """``DataVolumeCondition`` of Polyvisor's API."""

    type: str
    status: Annotated[str, OneOf("True", "False", "Unknown")]
    reason: str | None = None
    message: str | None = None
    last_transition_time: Time | None = None
    last_heartbeat_time: Time | None = None


class DataVolumeStatus(Model):
    """``DataVolumeStatus`` of Polyvisor's API."""

    claim_name: str | None = None
    phase: str | None = None
    progress: str | None = None
    restart_count: Int32 | None = None
    conditions: list[DataVolumeCondition] | None = None


class DataVolume(Model):
    """``DataVolume`` of Polyvisor's API."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    spec: CdiDataVolumeSpec
    status: DataVolumeStatus | None = None
