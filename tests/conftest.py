"""No test is skipped silently (:mod:`tests.needs`), and processes share them (:mod:`tests.sharing`)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest

from tests import needs, sharing

STRICT = "--strict-prerequisites"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        STRICT, action="store_true", help="run nothing if a prerequisite is missing; fail tests that need root"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "root: needs root")
    # Options of this run, already parsed. A pytest that a test starts would write this run's report.
    os.environ.pop("PYTEST_ADDOPTS", None)
    if config.getoption(STRICT) and (found := needs.missing()):
        raise pytest.UsageError(f"{needs.told(found)} ({STRICT})")


def pytest_report_header() -> list[str]:
    found = needs.missing()
    return [f"prerequisites: {needs.told(found)}"] if found else []


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> sharing.ByShare:
    return sharing.ByShare(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        ranks = sharing.ranks([item.nodeid for item in items])
        items.sort(key=lambda item: ranks[sharing.share_of(item.nodeid)])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root"):
        needs.need_root(item.config.getoption(STRICT))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and lane_of(report) not in needs.LANES:
        report.outcome = "failed"
        report.longrepr = f"skipped for a reason that is not in tests/needs.py: {reason_of(report)}"
    elif report.failed and (found := [one for one in needs.missing() if concerns(one.missing(), report.longreprtext)]):
        report.sections.append(("prerequisites", needs.told(found)))
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = Counter(map(reason_of, terminalreporter.stats.get("skipped", [])))
    if skipped:
        terminalreporter.section("what this machine cannot run")
        for reason, count in sorted(skipped.items()):
            lane, _, why = reason.partition(": ")
            terminalreporter.write_line(f"{lane:<20}  {count:>4} skipped  {why}")
    if found := needs.missing():
        terminalreporter.section("missing prerequisites")
        terminalreporter.write_line(needs.told(found))


def reason_of(report: Any) -> str:
    """Return why a test was skipped."""
    return str(report.longrepr[2]).removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""


def lane_of(report: Any) -> str:
    """Return what the machine lacks, by the reason."""
    return reason_of(report).partition(": ")[0]


def concerns(names: tuple[str, ...], failure: str) -> bool:
    """Say whether a failure speaks of something that is missing."""
    return any(word.rpartition("/")[2] in failure for name in names for word in name.split(" or "))
