"""Names of snapshots and restores that controllers, admission and the node agent share; KubeVirt's."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from polyvisor.api.base import Obj
from polyvisor.api.reading import annotations_of, nested, read_status

GROUP: Final = "snapshot.kubevirt.io"
STORAGE_GROUP: Final = "snapshot.storage.k8s.io"
SNAPSHOT_FINALIZER: Final = "snapshot.kubevirt.io/vmsnapshot-protection"
CONTENT_FINALIZER: Final = "snapshot.kubevirt.io/vmsnapshotcontent-protection"
SOURCE_FINALIZER: Final = "snapshot.kubevirt.io/snapshot-source-protection"
RESTORE_FINALIZER: Final = "snapshot.kubevirt.io/vmrestore-protection"
SOURCE_NAME_LABEL: Final = "snapshot.kubevirt.io/source-vm-name"
SOURCE_NAMESPACE_LABEL: Final = "snapshot.kubevirt.io/source-vm-namespace"
LAST_RESTORE_ANNOTATION: Final = "restore.kubevirt.io/lastRestoreUID"
RESTORE_NAME_ANNOTATION: Final = "restore.kubevirt.io/name"
RESTORE_SOURCE_LABEL: Final = "restore.kubevirt.io/source-vm-name"
RESTORE_SOURCE_NAMESPACE_LABEL: Final = "restore.kubevirt.io/source-vm-namespace"
CONTENT_ANNOTATION: Final = "hypervisor.kubevirt.io/judged-content"
"""On a restore or clone: the content from which its writer may have a machine made; admission alone writes it."""
LOCAL_CLASS: Final = "local"
"""The VolumeSnapshotClass of a standalone installation: files of this machine, which its agent copies."""
DEADLINE_SECONDS: Final = 300.0
GRACE_SECONDS: Final = 300.0
"""How long a restore waits for its target to be stopped."""


class SnapshotPhase(StrEnum):
    """Phases of a VirtualMachineSnapshot."""

    IN_PROGRESS = "InProgress"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    DELETING = "Deleting"


class Indication(StrEnum):
    """What has to be known about a snapshot of a running virtual machine."""

    ONLINE = "Online"
    GUEST_AGENT = "GuestAgent"
    NO_GUEST_AGENT = "NoGuestAgent"
    PAUSED = "Paused"
    QUIESCE_TIMEOUT = "QuiesceTimeout"
    PARTIAL = "PartialSnapshot"


INDICATIONS: Final = {
    Indication.ONLINE: "The virtual machine was running. Whether its data are consistent depends on the guest agent.",
    Indication.GUEST_AGENT: "The guest agent froze the guest's file systems.",
    Indication.NO_GUEST_AGENT: "There was no guest agent. The snapshot is as after a power cut, and applications in "
    "the guest may have to recover.",
    Indication.QUIESCE_TIMEOUT: "The guest thawed its file systems before the snapshot was complete. The snapshot is "
    "as after a power cut.",
    Indication.PAUSED: "The virtual machine was paused. The snapshot is as after a power cut.",
    Indication.PARTIAL: "Not all volumes that can be snapshotted are in the snapshot; status.snapshotVolumes lists "
    "those left out.",
}


class RestorePolicy(StrEnum):
    """How restored claims are named."""

    RANDOM = "RandomizeNames"
    IN_PLACE = "InPlace"
    PREFIX = "PrefixTargetName"


class ReadinessPolicy(StrEnum):
    """What a restore does while its target runs."""

    STOP = "StopTarget"
    GRACE = "WaitGracePeriod"
    FAIL = "FailImmediate"
    WAIT = "WaitEventually"


def content_name(snapshot: Obj) -> str:
    """Return the name of a VirtualMachineSnapshot's content."""
    told = read_status(snapshot).get("virtualMachineSnapshotContentName")
    return str(told or f"vmsnapshot-content-{snapshot['metadata'].get('uid')}")


def judged_content(maker: Obj) -> str:
    """Return the name of the content that a restore's or clone's writer was held to, empty if nobody was asked."""
    return str(annotations_of(maker).get(CONTENT_ANNOTATION) or "")


def judge_content(maker: Obj, name: str) -> None:
    """Write down, in place, the content to which a restore's or clone's writer was held; empty takes it away."""
    metadata = maker.setdefault("metadata", {})
    rest = {key: value for key, value in (metadata.get("annotations") or {}).items() if key != CONTENT_ANNOTATION}
    if name:
        rest[CONTENT_ANNOTATION] = name
    if rest or metadata.get("annotations") is not None:
        metadata["annotations"] = rest


def is_ready(obj: Obj) -> bool:
    """Whether a snapshot, its content or a VolumeSnapshot can be restored from."""
    return read_status(obj).get("readyToUse") is True


def snapshot_of(claim: Obj) -> str:
    """Return the name of the VolumeSnapshot that a claim is filled from, empty if it is not."""
    source = nested(claim, "spec").get("dataSourceRef") or nested(claim, "spec").get("dataSource") or {}
    same = source.get("apiGroup") == STORAGE_GROUP and source.get("kind") == "VolumeSnapshot"
    return str(source.get("name") or "") if same else ""
