"""Which tests one process has together, and which begin first."""

from __future__ import annotations

import pytest

from tests import sharing


@pytest.mark.parametrize(
    ("test", "share"),
    [
        ("tests/api/test_names.py::test_one[a::b/c]", "tests/api/test_names.py"),
        ("tests/e2e/test_demo.py::test_one", "tests/e2e/test_demo.py"),
        ("tests/e2e/pods/test_start.py::test_one", "tests/e2e/pods"),
    ],
)
def test_what_shares_a_cluster_stays_together(test: str, share: str) -> None:
    assert sharing.share_of(test) == share


def test_what_takes_long_begins_first_then_what_has_many_tests() -> None:
    tests = ["a.py::1", "b.py::1", "b.py::2", *(f"{share}::1" for share in reversed(sharing.LONG))]
    ranks = sharing.ranks(tests)
    assert sorted(ranks, key=lambda share: ranks[share]) == [*sharing.LONG, "b.py", "a.py"]


def test_what_is_named_is_there() -> None:
    assert all((sharing.TOP / share).exists() for share in (*sharing.TOGETHER, *sharing.LONG))
