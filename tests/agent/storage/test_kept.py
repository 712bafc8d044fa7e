from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from polyvisor.agent.storage.kept import _linked, _own_folder
from polyvisor.drivers.base import LauncherPlan


@pytest.mark.root
def test_a_folder_of_the_claim_is_the_launchers_and_stays_as_it_is(tmp_path: Path) -> None:
    claim = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    _own_folder(claim, "tpm", 107)
    (tmp_path / "tpm" / "state").write_text("kept")
    _own_folder(claim, "tpm", 108)
    os.close(claim)
    assert os.listdir(tmp_path) == ["tpm"]  # noqa: PTH208
    found = (tmp_path / "tpm").stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (107, 0o700)
    assert (tmp_path / "tpm" / "state").read_text() == "kept"


@pytest.mark.root
def test_a_link_in_the_place_of_a_folder_is_left_alone(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "claim").mkdir()
    (tmp_path / "claim" / "tpm").symlink_to(elsewhere)
    claim = os.open(tmp_path / "claim", os.O_RDONLY | os.O_DIRECTORY)
    _own_folder(claim, "tpm", 107)
    os.close(claim)
    assert elsewhere.stat().st_uid == os.geteuid()


def test_a_plan_leads_from_where_the_driver_keeps_its_state_to_the_claim() -> None:
    plan = LauncherPlan(uri="test:///default", keeps={"tpm": "root/tpm/{uuid}"}, links={"a": "b"})
    assert _linked(plan, ["tpm"], "u", Path("/claim")).links == {"a": "b", "root/tpm/u": "/claim/tpm"}
