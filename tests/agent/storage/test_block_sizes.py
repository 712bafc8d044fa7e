"""``blockSize.matchVolume``: the block sizes of what holds a disk, as the agent reads them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from polyvisor.agent.storage.making import Inputs, prepare
from polyvisor.agent.storage.prepared import Prepared
from polyvisor.agent.storage.sources import Places

from ..conftest import Make, PlainDriver
from .test_making import CLAIM


@pytest.mark.parametrize(("wanted", "seen"), [({}, True), ({"enabled": False}, False), (None, False)])
def test_a_guest_sees_the_blocks_of_what_holds_its_disk(
    places: Places, home: Path, make_vmi: Make, wanted: dict[str, bool] | None, seen: bool
) -> None:
    disks_ = [{"name": name, "disk": {}, "blockSize": {"matchVolume": wanted}} for name in ("data", "own")]
    vmi = make_vmi(
        {"name": "data", "persistentVolumeClaim": {"claimName": "c"}},
        {"name": "own", "emptyDisk": {"capacity": "1Mi"}},
        domain={"devices": {"disks": disks_}},
    )
    made = prepare(vmi, PlainDriver(), home, places, Inputs(claims={"c": CLAIM}))
    for files in (made.files, Prepared.from_json(made.to_json()).files):
        blocks = min(os.statvfs(home).f_bsize, 4096) if seen else 0
        assert {name: (file.logical, file.physical) for name, file in files.items()} == {
            "data": (blocks, blocks),
            "own": (blocks, blocks),
        }
