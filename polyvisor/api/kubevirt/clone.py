"""VirtualMachineClone: a copy of a virtual machine.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

from typing import Annotated

from polyvisor.api.base import Model, OneOf, Time
from polyvisor.api.core.meta import ObjectMeta, TypedLocalObjectReference
from polyvisor.api.kubevirt.snapshot import SnapshotCondition


class VirtualMachineCloneTemplateFilters(Model):
    """``VirtualMachineCloneTemplateFilters`` of KubeVirt's API."""

    annotation_filters: list[str] | None = None
    label_filters: list[str] | None = None


class VirtualMachineCloneSpec(Model):
    """``VirtualMachineCloneSpec`` of KubeVirt's API."""

    annotation_filters: list[str] | None = None
    label_filters: list[str] | None = None
    new_mac_addresses: dict[str, str] | None = None
    new_sm_bios_serial: str | None = None
    patches: list[str] | None = None
    source: TypedLocalObjectReference
    target: TypedLocalObjectReference | None = None
    template: VirtualMachineCloneTemplateFilters | None = None
    volume_name_policy: Annotated[str | None, OneOf("RandomizeNames", "PrefixTargetName")] = None


class VirtualMachineCloneStatus(Model):
    """``VirtualMachineCloneStatus`` of KubeVirt's API."""

    conditions: list[SnapshotCondition] | None = None
    creation_time: Time | None = None
    phase: str | None = None
    restore_name: str | None = None
    snapshot_name: str | None = None
    target_name: str | None = None


class VirtualMachineClone(Model):
    """A copy of a virtual machine or of a snapshot."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    spec: VirtualMachineCloneSpec
    status: VirtualMachineCloneStatus | None = None
