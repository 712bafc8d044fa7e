"""Lanes: which have to run, what is kept of them, and what the tables at the end say."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import lanes
import pytest
from lanes import CORE, LANES, SLOW, Lane, Result

TOP = Path(__file__).resolve().parents[2]
PASSED = Result(passed=True, seconds=12, when=1000.0, commit="abc", clean=True)
REPORT = """\
<testsuites><testsuite name="pytest">
<testcase name="a"><skipped type="pytest.skip" message="no such device&#10;more">x</skipped></testcase>
<testcase name="b"><skipped type="pytest.skip" message="no such device">x</skipped></testcase>
<testcase name="c"><skipped type="pytest.xfail" message="known">x</skipped></testcase>
<testcase name="d"/>
</testsuite></testsuites>
"""


@pytest.mark.parametrize(
    ("result", "keep", "due"),
    [
        (None, True, True),
        (PASSED, False, False),
        (Result(False, 12, 1000.0, "abc", True), True, True),
        (Result(True, 12, 1000.0, "abc", False), True, True),
        (Result(True, 12, 1000.0, "older", True), False, True),
        (Result(True, 12, 1000.0, "older", True), True, False),
    ],
)
def test_which_lanes_have_to_run(result: Result | None, keep: bool, due: bool) -> None:
    assert lanes.due(result, "abc", keep) == due


def test_a_result_is_kept_and_found_again(tmp_path: Path) -> None:
    lane = Lane("one", "", ("true",))
    assert lanes.kept(lane, tmp_path) is None
    (tmp_path / "one.json").write_text("{")
    assert lanes.kept(lane, tmp_path) is None
    lanes.keep_result(lane, PASSED, tmp_path)
    assert lanes.kept(lane, tmp_path) == PASSED


@pytest.mark.parametrize(("code", "passed"), [("pass", True), ("raise SystemExit(3)", False)])
def test_a_lane_passes_by_its_exit_code(tmp_path: Path, code: str, passed: bool) -> None:
    script = f"import os; print(os.environ['MORE'], os.environ['PYTEST_ADDOPTS']); {code}"
    lane = Lane("one", "a lane", (sys.executable, "-c", script), (("MORE", "given"),))
    (result,) = lanes.run([lane], tmp_path)
    assert result.passed == passed
    assert re.fullmatch(rf"given .*--junitxml={tmp_path}/one.xml\n", (tmp_path / "one.log").read_text())


MEET = """
import pathlib, sys, time
pathlib.Path(sys.argv[1]).touch()
while not pathlib.Path(sys.argv[2]).exists():
    time.sleep(0.01)
print("met", sys.argv[3])
"""


def test_lanes_run_at_the_same_time_and_are_shown_in_their_order(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    places = [str(tmp_path / name) for name in ("here", "there")]
    one = Lane("one", "the first", (sys.executable, "-c", MEET, *places, "one"))
    two = Lane("two", "the second", (sys.executable, "-c", MEET, *reversed(places), "two"), beside=True)
    assert [result.passed for result in lanes.run([one, two], tmp_path)] == [True, True]
    said = capfdbinary.readouterr().out.decode()
    assert re.fullmatch(
        r"\n==== one: the first\nmet one\n==== one: passed in \d+ s\n"
        r"\n==== two: the second\nmet two\n==== two: passed in \d+ s\n", said
    )  # fmt: skip


@pytest.fixture(params=[signal.SIG_DFL, signal.SIG_IGN], ids=["heeded", "ignored"])
def interrupts(request: pytest.FixtureRequest) -> Iterator[None]:
    """What the process has made of Ctrl-C that began the run; a shell's background has it ignored."""
    before = signal.signal(signal.SIGINT, request.param)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_an_interrupted_run_ends_all_its_lanes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        while not all((tmp_path / f"{name}.log").read_text() for name in ("one", "two")):
            pass
        raise KeyboardInterrupt

    monkeypatch.setattr(lanes, "follow", interrupted)
    command = (sys.executable, "-uc", "import time; print('begun'); time.sleep(1000)")
    with pytest.raises(KeyboardInterrupt):
        lanes.run([Lane("one", "", command), Lane("two", "", command, beside=True)], tmp_path)
    assert [(tmp_path / f"{name}.log").read_text().count("KeyboardInterrupt") for name in ("one", "two")] == [1, 1]


def test_a_lane_beside_another_runs_with_the_one_that_runs_before_it() -> None:
    one, two, three = Lane("one", "", ()), Lane("two", "", (), beside=True), Lane("three", "", ())
    assert lanes.together([one, two, three]) == [[one, two], [three]]
    assert lanes.together([two, three]) == [[two], [three]]


def test_skips_are_counted_by_reason(tmp_path: Path) -> None:
    (tmp_path / "r.xml").write_text(REPORT)
    assert lanes.skips(tmp_path / "r.xml") == {"no such device": 2}
    assert lanes.skips(tmp_path / "none.xml") == {}


def test_the_table_tells_result_age_and_commit() -> None:
    rows = [(Lane("one", "", ()), PASSED), (Lane("another", "", ()), None)]
    assert lanes.summary(rows, "abc", 1000.0 + 7200) == (
        "  lane     result   seconds  age  commit\n  one      passed   12       2 h  abc (this)\n  another  not run\n"
    )


def test_no_test_is_in_no_lane() -> None:
    """What leaves ``.ci/run`` by the marker ``proof`` is in a lane of ``make proof``."""
    marked = {
        path.relative_to(TOP)
        for path in (TOP / "tests").rglob("test_*.py")
        if path != Path(__file__) and re.search(r"\bmark\.proof\b|\blive\(", path.read_text())
    }
    words = " ".join(word for lane in LANES["proof"] for word in lane.command if SLOW in word)
    places = [Path(place) for place in re.findall(r"tests/e2e/\S+", words)]
    assert {path for path in marked if not any(path.is_relative_to(place) for place in places)} == set()
    assert marked, "the marker is used nowhere, or is looked for wrongly"
    assert any(CORE in word for lane in LANES["ci"] for word in lane.command)


def test_an_age_is_told_in_one_unit() -> None:
    assert [lanes.age(seconds) for seconds in (5, 120, 7200, 3 * 86400)] == ["5 s", "2 min", "2 h", "3 d"]


@pytest.mark.parametrize("name", LANES)
def test_no_two_lanes_keep_their_results_under_one_name(name: str) -> None:
    names = [lane.name for lane in LANES[name]]
    assert len(names) == len(set(names))
