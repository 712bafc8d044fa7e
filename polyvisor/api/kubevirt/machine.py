"""VirtualMachine: a machine that outlives its runs.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

from typing import Annotated

from polyvisor.api.base import Int32, Int64, Model, OneOf, Time
from polyvisor.api.core.meta import ObjectMeta
from polyvisor.api.kubevirt.datavolume import DataVolumeTemplateSpec
from polyvisor.api.kubevirt.instance import VirtualMachineInstanceTemplateSpec
from polyvisor.api.kubevirt.migration import VolumeUpdateState
from polyvisor.api.kubevirt.storage import (
    ChangedBlockTrackingStatus,
    VirtualMachineMemoryDumpRequest,
    VirtualMachineVolumeRequest,
    VolumeSnapshotStatus,
)


class ControllerRevisionRef(Model):
    """``ControllerRevisionRef`` of KubeVirt's API."""

    name: str | None = None


class InstancetypeMatcher(Model):
    """``InstancetypeMatcher`` of KubeVirt's API."""

    infer_from_volume: str | None = None
    infer_from_volume_failure_policy: Annotated[str | None, OneOf("Reject", "Ignore")] = None
    kind: str | None = None
    name: str | None = None
    revision_name: str | None = None


class InstancetypeStatusRef(Model):
    """``InstancetypeStatusRef`` of KubeVirt's API."""

    controller_revision_ref: ControllerRevisionRef | None = None
    infer_from_volume: str | None = None
    infer_from_volume_failure_policy: str | None = None
    kind: str | None = None
    name: str | None = None


class PreferenceMatcher(Model):
    """``PreferenceMatcher`` of KubeVirt's API."""

    infer_from_volume: str | None = None
    infer_from_volume_failure_policy: Annotated[str | None, OneOf("Reject", "Ignore")] = None
    kind: str | None = None
    name: str | None = None
    revision_name: str | None = None


class VirtualMachineSpec(Model):
    """What a machine is and whether it should run."""

    data_volume_templates: list[DataVolumeTemplateSpec] | None = None
    instancetype: InstancetypeMatcher | None = None
    preference: PreferenceMatcher | None = None
    run_strategy: Annotated[
        str | None, OneOf("Always", "Halted", "Manual", "RerunOnFailure", "Once", "WaitAsReceiver")
    ] = None
    running: bool | None = None
    template: VirtualMachineInstanceTemplateSpec
    update_volumes_strategy: Annotated[str | None, OneOf("Migration", "Replacement")] = None


class VirtualMachineCondition(Model):
    """``VirtualMachineCondition`` of KubeVirt's API."""

    last_probe_time: str | None = None
    last_transition_time: str | None = None
    message: str | None = None
    reason: str | None = None
    status: str
    type: str


class VirtualMachineStartFailure(Model):
    """``VirtualMachineStartFailure`` of KubeVirt's API."""

    consecutive_fail_count: Int32 | None = None
    last_failed_vmi_uid: str | None = None
    retry_after_timestamp: Time | None = None


class VirtualMachineStateChangeRequest(Model):
    """``VirtualMachineStateChangeRequest`` of KubeVirt's API."""

    action: str
    data: dict[str, str] | None = None
    uid: str | None = None


class VirtualMachineStatus(Model):
    """``VirtualMachineStatus`` of KubeVirt's API."""

    changed_block_tracking: ChangedBlockTrackingStatus | None = None
    conditions: list[VirtualMachineCondition] | None = None
    created: bool | None = None
    desired_generation: Int64 | None = None
    instancetype_ref: InstancetypeStatusRef | None = None
    memory_dump_request: VirtualMachineMemoryDumpRequest | None = None
    observed_generation: Int64 | None = None
    preference_ref: InstancetypeStatusRef | None = None
    printable_status: str | None = None
    ready: bool | None = None
    restore_in_progress: str | None = None
    run_strategy: str | None = None
    snapshot_in_progress: str | None = None
    start_failure: VirtualMachineStartFailure | None = None
    state_change_requests: list[VirtualMachineStateChangeRequest] | None = None
    volume_requests: list[VirtualMachineVolumeRequest] | None = None
    volume_snapshot_statuses: list[VolumeSnapshotStatus] | None = None
    volume_update_state: VolumeUpdateState | None = None


class VirtualMachine(Model):
    """A machine that outlives its runs."""

    api_version: str | None = None
    kind: str | None = None
    metadata: ObjectMeta | None = None
    spec: VirtualMachineSpec
    status: VirtualMachineStatus | None = None
