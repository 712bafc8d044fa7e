"""Which tests one process has together, and which begin first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import sharing

HANGS = """
import time
import pytest
@pytest.mark.parametrize("number", range(3))
def test_one(number):
    if number == 1:
        time.sleep(1000)
"""


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


def test_a_test_that_hangs_fails_once_with_its_stack_and_the_others_run(tmp_path: Path) -> None:
    for name in ("test_hangs.py", "test_other.py"):
        (tmp_path / name).write_text(HANGS if name == "test_hangs.py" else HANGS.replace("number == 1", "False"))
    options = "-q -n 2 --no-loadscope-reorder -p tests.conftest"
    limits = "-o faulthandler_timeout=2 -o faulthandler_exit_on_timeout=true"
    command = [sys.executable, "-m", "pytest", *options.split(), *limits.split()]
    done = subprocess.run(
        [*command, f"--rootdir={tmp_path}", tmp_path], capture_output=True, text=True, timeout=120, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(sharing.TOP)},
    )  # fmt: skip
    assert "1 failed, 5 passed" in done.stdout, done.stdout
    assert "crashed while running 'test_hangs.py::test_one[1]'" in done.stdout
    assert "in test_one" in done.stderr


def test_the_tree_has_a_time_limit_for_each_test(pytestconfig: pytest.Config) -> None:
    assert float(pytestconfig.getini("faulthandler_timeout")) > 0
    assert pytestconfig.getini("faulthandler_exit_on_timeout") is True
