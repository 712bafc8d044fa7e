"""The rule that no test is skipped silently, tried on a run of pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests import needs
from tests.folders import short_folder

TOP = Path(__file__).resolve().parents[1]
NOBODY = ("/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
TESTS = """
import pytest
from tests.needs import absent, need

def test_a_lane():
    absent("loop devices", "this machine has none")

def test_another():
    absent("loop devices", "this machine has none")

def test_of_its_own():
    pytest.skip("not today")

@pytest.mark.skipif(True, reason="nor tomorrow")
def test_by_a_mark():
    pass

@pytest.mark.xfail(reason="known", strict=True)
def test_known():
    raise ValueError

def test_a_program():
    need("buildah")

@pytest.mark.root
def test_as_root():
    pass
"""


def run(folder: Path, *options: str, before: Sequence[str] = ()) -> str:
    (folder / "test_some.py").write_text(TESTS)
    command = [*before, sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-rfE"]
    command += [f"--rootdir={folder}", *options, os.fspath(folder)]
    environment = {**os.environ, "PYTHONPATH": str(TOP), "PATH": str(folder), "COLUMNS": "120"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that every user may read."""
    with short_folder() as found:
        found.chmod(0o755)
        yield found


def test_a_lane_is_skipped_and_shown_and_all_else_fails(folder: Path) -> None:
    said = run(folder)
    assert "loop devices             2 skipped  this machine has none" in said
    assert "skipped for a reason that is not in tests/needs.py: not today" in said
    assert "skipped for a reason that is not in tests/needs.py: nor tomorrow" in said
    assert "FAILED test_some.py::test_a_program - Failed: buildah missing: " in said
    assert "2 failed" in said
    assert "1 error" in said
    assert "1 xfailed" in said


@pytest.mark.root
def test_a_user_who_is_not_root_is_told(folder: Path) -> None:
    before = (*needs.open_tree(), *NOBODY)
    assert "root                     1 skipped  this test needs root" in run(folder, before=before)


@pytest.mark.root
def test_a_tree_in_a_closed_folder_is_run_as_another_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = folder / "closed" / "deep" / "tree"
    tree.mkdir(parents=True)
    (tree / "here").write_text("seen\n")
    (folder / "closed").chmod(0o700)
    command = [*NOBODY, "/bin/cat", tree / "here"]
    assert subprocess.run(command, capture_output=True).returncode == 1
    monkeypatch.setattr(needs, "TOP", tree)
    done = subprocess.run([*needs.open_tree(), *command], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("seen\n", "")
    assert list((folder / "closed").rglob("*")) == [tree.parent, tree, tree / "here"]


def test_options_of_this_run_are_not_those_of_a_run_that_a_test_starts(folder: Path) -> None:
    options = f"--junitxml={folder}/report.xml"
    code = "import os; print('left:', os.environ.get('PYTEST_ADDOPTS'))\n\ndef test_it(): pass\n"
    (folder / "test_left.py").write_text(code)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-s", "test_left.py"]
    environment = {**os.environ, "PYTHONPATH": str(TOP), "PYTEST_ADDOPTS": options}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert "left: None" in done.stdout
    assert (folder / "report.xml").exists()


def test_a_strict_run_does_not_begin_without_everything(folder: Path) -> None:
    said = run(folder, "--strict-prerequisites")
    assert "ERROR: " in said
    assert "genisoimage or xorrisofs" in said.partition(" missing")[0]
    assert "passed" not in said
