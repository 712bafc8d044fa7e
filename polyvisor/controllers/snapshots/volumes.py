"""VolumeSnapshots of a machine's claims: made together, awaited, and told of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from polyvisor.api.cluster_resources import VOLUME_SNAPSHOTS
from polyvisor.api.reading import nested, read_status
from polyvisor.api.resources import SNAPSHOT_CONTENTS
from polyvisor.api.snapshots import LOCAL_CLASS, SOURCE_NAME_LABEL, SOURCE_NAMESPACE_LABEL
from polyvisor.controllers.objects import owner_reference
from polyvisor.controllers.snapshots.source import found
from polyvisor.kube import ApiError, KubeClient

if TYPE_CHECKING:
    from polyvisor.api import Obj

MAX_LABEL = 63


@dataclass
class Seen:
    """What there is of a content's VolumeSnapshots."""

    entries: list[Obj] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    error: str = ""
    final: bool = False
    """Whether the error is the end: a node's own agent has given up."""

    @property
    def created(self) -> bool:
        """Whether all are taken, so that the guest may write again."""
        return not self.missing and all(entry.get("creationTime") for entry in self.entries)

    @property
    def ready(self) -> bool:
        """Whether all can be restored from."""
        return not self.missing and all(entry.get("readyToUse") for entry in self.entries)


def names_of(content: Obj) -> list[str]:
    """Return the names of a content's VolumeSnapshots."""
    backups = nested(content, "spec").get("volumeBackups") or []
    return [backup["volumeSnapshotName"] for backup in backups if backup.get("volumeSnapshotName")]


async def look(client: KubeClient, content: Obj) -> Seen:
    """Return what there is of a content's VolumeSnapshots."""
    seen = Seen()
    for name in names_of(content):
        one = await found(client, VOLUME_SNAPSHOTS, name, content["metadata"]["namespace"])
        if one is None:
            seen.missing.append(name)
            continue
        status = read_status(one)
        told = {key: status[key] for key in ("creationTime", "error", "readyToUse") if status.get(key) is not None}
        seen.entries.append({"volumeSnapshotName": name, **told})
        message = nested(status, "error").get("message")
        if message and not seen.error and not status.get("readyToUse"):
            seen.error = f"VolumeSnapshot {name} error: {message}"
            seen.final = one["spec"].get("volumeSnapshotClassName") == LOCAL_CLASS
    return seen


async def make(client: KubeClient, content: Obj, missing: Iterable[str], classes: dict[str, str]) -> None:
    """Make the VolumeSnapshots that are missing; ``classes`` are those of the claims, by the claim's name."""
    wanted = set(missing)
    source = nested(content, "spec", "source", "virtualMachine", "metadata")
    labels = {SOURCE_NAME_LABEL: str(source["name"])[:MAX_LABEL], SOURCE_NAMESPACE_LABEL: str(source["namespace"])}
    for backup in content["spec"].get("volumeBackups") or []:
        if backup.get("volumeSnapshotName") not in wanted:
            continue
        claim = backup["persistentVolumeClaim"]["metadata"]["name"]
        body = {
            "apiVersion": VOLUME_SNAPSHOTS.api_version,
            "kind": VOLUME_SNAPSHOTS.kind,
            "metadata": {
                "name": backup["volumeSnapshotName"],
                "namespace": content["metadata"]["namespace"],
                "labels": labels,
                "ownerReferences": [owner_reference(content, SNAPSHOT_CONTENTS)],
            },
            "spec": {"source": {"persistentVolumeClaimName": claim}, "volumeSnapshotClassName": classes[claim]},
        }
        try:
            await client.create(VOLUME_SNAPSHOTS, body)
        except ApiError as error:
            if not error.already_exists:
                raise
