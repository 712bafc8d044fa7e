"""What attaching and detaching a disk does to a spec; refused as KubeVirt's ``verifyVolumeOption`` does."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from polyvisor.server.errors import Refusal
from polyvisor.server.subresources_volumes import _added, _removed

Obj = dict[str, Any]
SPEC: Obj = {
    "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "files", "hotpluggable": True}}],
    "domain": {"devices": {"disks": [{"name": "data", "disk": {"bus": "scsi"}}]}},
}


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("data", {"dataVolume": {"name": "other"}}, r"volume \[data\] because volume with that name already exists"),
        (
            "more",
            {"persistentVolumeClaim": {"claimName": "files"}},
            r"source \[files\] because it already exists",
        ),
        ("more", {"dataVolume": {"name": "files"}}, r"source \[files\] because it already exists"),
    ],
)
def test_neither_a_name_nor_a_claim_is_attached_twice(name: str, source: Obj, message: str) -> None:
    options = {"name": name, "disk": {"name": name}, "volumeSource": source}
    with pytest.raises(Refusal, match=message) as caught:
        _added(copy.deepcopy(SPEC), options, "virtualmachine", "demo")
    assert caught.value.code == 409


@pytest.mark.parametrize("name", ["data", "files"])
def test_a_disk_is_detached_by_its_name_or_that_of_its_claim(name: str) -> None:
    left = _removed(copy.deepcopy(SPEC), name, "virtualmachine", "demo")
    assert (left["volumes"], left["domain"]["devices"]["disks"]) == ([], [])
