"""What is told of a host's huge pages, by files like the kernel's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from polyvisor.agent.errors import AgentError
from polyvisor.agent.node.huge_pages import check, reserved
from polyvisor.agent.node.registration import allocatable


def pages(root: Path, kib: int, there: int, free: int, held: int = 0) -> None:
    folder = root / f"hugepages-{kib}kB"
    folder.mkdir()
    for name, count in (("nr", there), ("free", free), ("resv", held)):
        (folder / f"{name}_hugepages").write_text(f"{count}\n")


def spec(size: str | None, guest: str = "64Mi") -> dict[str, Any]:
    huge = {"hugepages": {"pageSize": size}} if size else {}
    return {"domain": {"memory": {"guest": guest, **huge}, "devices": {}}}


def test_pages_are_counted_by_their_size(tmp_path: Path) -> None:
    assert reserved(tmp_path / "none") == {}
    pages(tmp_path, 2048, 40, 40)
    pages(tmp_path, 1048576, 0, 0)
    assert reserved(tmp_path) == {2 << 20: 40, 1 << 30: 0}


@pytest.mark.parametrize(("there", "free", "held"), [(40, 31, 0), (40, 33, 2), (0, 0, 0)])
def test_too_few_free_pages_are_told_with_the_way_to_have_more(
    tmp_path: Path, there: int, free: int, held: int
) -> None:
    pages(tmp_path, 2048, there, free, held)
    left = free - held
    with pytest.raises(AgentError) as told:
        check(spec("2Mi"), tmp_path)
    assert f"32 pages of 2Mi are wanted, and {left} of this host's {there} are free" in str(told.value)
    assert f"echo {there + 32 - left} > {tmp_path}/hugepages-2048kB/nr_hugepages" in str(told.value)
    assert told.value.retry


def test_enough_pages_are_enough(tmp_path: Path) -> None:
    pages(tmp_path, 2048, 32, 32)
    check(spec("2Mi"), tmp_path)
    check(spec(None, "4Gi"), tmp_path)


def test_a_size_that_the_host_does_not_have_is_named(tmp_path: Path) -> None:
    pages(tmp_path, 2048, 32, 32)
    with pytest.raises(AgentError, match=r"16Mi is not a page size of this host; it has 2Mi"):
        check(spec("16Mi"), tmp_path)


def test_memory_in_huge_pages_is_no_ordinary_memory() -> None:
    has = {"memory": "1048576Ki", "hugepages-2Mi": "65536Ki", "hugepages-1Gi": "0Ki", "cpu": "2"}
    assert allocatable(has) == {**has, "memory": "983040Ki"}
