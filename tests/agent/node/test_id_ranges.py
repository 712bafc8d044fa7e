"""Ranges of a node's ids: one for each machine, the same for as long as anything of it may run."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.errors import AgentError
from polyvisor.agent.node.id_ranges import IdRanges
from polyvisor.domain import ids
from polyvisor.drivers.lxc import LxcDriver
from polyvisor.drivers.qemu import QemuDriver


def pod(uid: str) -> dict[str, Any]:
    return {"metadata": {"uid": uid}}


async def give(ranges: IdRanges, uid: str) -> int:
    return await ranges.given(pod(uid), LxcDriver())


async def test_no_two_machines_have_an_id_in_common_and_each_keeps_its_own(tmp_path: Path) -> None:
    ranges = IdRanges(tmp_path / "ids.json", lambda _: False)
    given = {uid: await give(ranges, uid) for uid in ("a", "b", "c")}
    starts = sorted(given.values())
    assert all(later - start >= ids.EACH for start, later in itertools.pairwise(starts))
    assert {uid: await give(ranges, uid) for uid in ("c", "a", "b")} == given
    again = IdRanges(tmp_path / "ids.json", lambda _: False)  # after a restart of the agent
    assert await give(again, "d") not in given.values()
    assert {uid: await give(again, uid) for uid in given} == given


async def test_a_range_is_free_once_nothing_of_its_pod_can_run(tmp_path: Path) -> None:
    over: set[str] = set()
    ranges = IdRanges(tmp_path / "ids.json", over.__contains__)
    first = await give(ranges, "a")
    assert await give(ranges, "b") != first
    over.add("a")
    assert await give(ranges, "c") == first


async def test_a_node_whose_ranges_are_all_taken_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "FIRST", ids.FIRST[:1])
    ranges = IdRanges(tmp_path / "ids.json", lambda _: False)
    await give(ranges, "a")
    with pytest.raises(AgentError, match="all 1 ranges of user ids of this node are other machines'"):
        await give(ranges, "b")


async def test_a_guest_with_a_kernel_of_its_own_needs_none(tmp_path: Path) -> None:
    ranges = IdRanges(tmp_path / "ids.json", lambda _: False)
    assert await ranges.given(pod("a"), QemuDriver()) == 0
    assert not (tmp_path / "ids.json").exists()


def test_the_ranges_lie_where_the_document_says() -> None:
    assert (ids.BEGIN, ids.END - 1) == (1_879_048_192, 2_147_352_575)
    assert ids.TRIAL not in ids.FIRST
    assert ids.FIRST[-1] + ids.EACH <= ids.END
    assert len(ids.FIRST) == 4093
    text = (Path(__file__).resolve().parents[3] / "docs" / "drivers" / "lxc.md").read_text()
    assert f"{ids.BEGIN} to {ids.END - 1}" in text
