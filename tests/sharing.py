"""How several processes share the tests (``make test``): file by file, those that take long first.

A file has its installation, its guests or its cluster to itself, so one process has the whole of it; the files of some
folders share a cluster. What takes long must not begin last, or all but one process wait for it at the end.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

TOP = Path(__file__).resolve().parents[1]
TOGETHER = ("tests/e2e/clients", "tests/e2e/full", "tests/e2e/pods")
"""Folders whose files share what is expensive."""
LONG = (
    *("tests/e2e/pods", "tests/e2e/test_faults.py"),
    *("tests/drivers/test_verdicts.py", "tests/drivers/test_real.py", "tests/drivers/test_real_screens.py"),
    *("tests/standalone/test_process.py", "tests/drivers/test_taps.py", "tests/drivers/test_real_statistics.py"),
)
"""What takes long though its tests are few, the longest first."""


def share_of(test: str) -> str:
    """Return what a test is run together with, by the test's id: its file, or a folder."""
    path = test.partition("::")[0]
    return next((folder for folder in TOGETHER if path.startswith(f"{folder}/")), path)


def ranks(tests: list[str]) -> dict[str, tuple[int, int]]:
    """Return for each share of the tests what it is sorted by: those that take long, then those of many tests."""
    sizes = Counter(map(share_of, tests))
    return {share: (LONG.index(share) if share in LONG else len(LONG), -size) for share, size in sizes.items()}


class ByShare(LoadScopeScheduling):
    """Gives each process the next share when it has done its own."""

    def _split_scope(self, nodeid: str) -> str:
        return share_of(nodeid)

    def remove_node(self, node: WorkerController) -> str | None:
        """Return the test that a process ended in, and give the rest of its shares to others.

        The test itself has failed: by itself xdist would give it to one process after the other, and lose them all.
        """
        units = self.assigned_work[node].values()
        unit, ended_in = next(((unit, test) for unit in units for test, done in unit.items() if not done), (None, None))
        if unit is not None and ended_in is not None:
            unit[ended_in] = True
        super().remove_node(node)
        return ended_in
