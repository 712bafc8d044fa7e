"""What disks ask of the volumes behind them, and what cannot be asked of a disk that is shared or passed through."""

from __future__ import annotations

import pytest

from polyvisor.admission import AdmissionContext, admit
from polyvisor.api.resources import VMIS
from tests.admission.conftest import Change, instance, put
from tests.admission.test_rules import DISKS, both

CLAIM = put("volumes.0", {"name": "root", "persistentVolumeClaim": {"claimName": "c"}})
METRICS = {"name": "root", "downwardMetrics": {}}
FOLDERS = "domain.devices.filesystems"


def folders(*names: str) -> list[dict[str, object]]:
    return [{"name": name, "virtiofs": {}} for name in names]


CASES: list[tuple[Change, str, str]] = [
    (put(f"{DISKS}.0.shareable", True), f"{DISKS}[0].shareable", "a containerDisk is one machine's own"),
    (
        both(CLAIM, put(f"{DISKS}.0", {"name": "root", "disk": {}, "shareable": True, "cache": "writeback"})),
        f"{DISKS}[0].cache",
        "a disk that is shared has cache: none",
    ),
    (put(f"{DISKS}.0", {"name": "root", "lun": {}}), f"{DISKS}[0].lun", "a containerDisk is no SCSI device"),
    (both(CLAIM, put(f"{DISKS}.0", {"name": "root", "lun": {"bus": "sata"}})), f"{DISKS}[0].lun.bus", "bus scsi"),
    (both(CLAIM, put(f"{DISKS}.0", {"name": "root", "lun": {}, "serial": "S"})), f"{DISKS}[0].serial", "of its own"),
    (
        both(
            put("volumes.2", {"name": "a", "memoryDump": {"claimName": "c"}}),
            put("volumes.3", {"name": "b", "memoryDump": {"claimName": "d"}}),
        ),
        "volumes[3].memoryDump",
        "one memory dump at a time",
    ),
    (
        put(f"{DISKS}.0.blockSize", {"custom": {"logical": 512, "physical": 512}, "matchVolume": {}}),
        f"{DISKS}[0].blockSize.matchVolume",
        "custom and matchVolume exclude each other",
    ),
    (
        put(f"{DISKS}.0.blockSize", {"custom": {"logical": 4096, "physical": 4096, "discardGranularity": 512}}),
        f"{DISKS}[0].blockSize.custom.discardGranularity",
        "found 512; accepted: 0 (none at all), and multiples of 4096",
    ),
    (
        put(f"{DISKS}.0", {"name": "root", "disk": {"bus": "scsi", "rotationRate": 7}}),
        f"{DISKS}[0].disk.rotationRate",
        "found 7; accepted: 1 (an SSD), and 1025 to 65534",
    ),
    (
        both(put("volumes.0", METRICS), put("volumes.2", {**METRICS, "name": "m"})),
        "volumes[2].downwardMetrics",
        "one volume of metrics; the first is spec.volumes[0]",
    ),
    (
        both(put("volumes.0", METRICS), put(f"{DISKS}.0", {"name": "root", "disk": {"bus": "sata"}})),
        f"{DISKS}[0].disk.bus",
        "on a disk with bus virtio, found 'sata'",
    ),
    (
        both(put("volumes.0", METRICS), put(f"{DISKS}.0", {"name": "root", "cdrom": {}})),
        f"{DISKS}[0]",
        "give disk in place of lun and cdrom",
    ),
    (
        put("volumes.0", {"name": "root", "memoryDump": {"claimName": "c"}}),
        f"{DISKS}[0].name",
        "takes a memory dump, and no disk shows it",
    ),
    (
        put("volumes.2", {"name": "a", "serviceAccount": {}}),
        "volumes[2].serviceAccount.serviceAccountName",
        "required; the name of a ServiceAccount",
    ),
    (
        both(
            put("volumes.2", {"name": "a", "serviceAccount": {"serviceAccountName": "a"}}),
            put("volumes.3", {"name": "b", "serviceAccount": {"serviceAccountName": "b"}}),
        ),
        "volumes[3].serviceAccount",
        "one service account; the first is spec.volumes[2]",
    ),
    (put(FOLDERS, folders("nothing")), f"{FOLDERS}[0].name", "no volume has the name 'nothing'; volumes: root"),
    (
        both(CLAIM, put(FOLDERS, folders("root"))),
        f"{FOLDERS}[0].name",
        "the volume 'root' is the disk spec.domain.devices.disks[0] already",
    ),
    (
        both(put("volumes.2", {"name": "a", "emptyDisk": {"capacity": "1Mi"}}), put(FOLDERS, folders("a"))),
        f"{FOLDERS}[0].name",
        "a emptyDisk is no folder that a guest can mount; accepted: persistentVolumeClaim",
    ),
    (
        both(
            put("volumes.2", {"name": "a", "persistentVolumeClaim": {"claimName": "a", "hotpluggable": True}}),
            put(FOLDERS, folders("a")),
        ),
        f"{FOLDERS}[0].name",
        "hotpluggable, which is for disks",
    ),
]


@pytest.mark.parametrize(("change", "field", "words"), CASES, ids=[case[1] for case in CASES])
def test_a_disk_is_refused(context: AdmissionContext, change: Change, field: str, words: str) -> None:
    found = admit("CREATE", VMIS, instance(change), None, context).problems
    assert [problem.field for problem in found] == [f"spec.{field}"], [str(p) for p in found]
    assert words in found[0].message


def test_a_claim_may_be_shared_and_passed_through(context: AdmissionContext) -> None:
    for disk in ({"disk": {}, "shareable": True, "cache": "none"}, {"lun": {"bus": "scsi"}, "shareable": True}):
        change = both(CLAIM, put(f"{DISKS}.0", {"name": "root", **disk}))
        assert not admit("CREATE", VMIS, instance(change), None, context).problems


def test_a_volume_that_is_a_folder_gets_no_disk(context: AdmissionContext) -> None:
    change = both(put("volumes.2", {"name": "texts", "configMap": {"name": "texts"}}), put(FOLDERS, folders("texts")))
    outcome = admit("CREATE", VMIS, instance(change), None, context)
    assert not outcome.problems
    assert "texts" not in {disk["name"] for disk in outcome.obj["spec"]["domain"]["devices"]["disks"]}
