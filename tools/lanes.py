"""Run lanes, each a command that passes or fails, and show them all in one table: ``lanes.py ci|proof [LANE...]``.

``ci`` is what each change must pass (``.ci/run``): every lane runs, whatever the others did. ``proof`` is what need not
run for each change (``make proof``): it resumes. A lane's last result is kept in the user's cache with its commit and
its log, and a lane that passed is run again only at another commit; ``--again`` runs it all the same, ``--keep``
accepts a pass at any commit, ``--list`` shows the table alone. A result in a tree with uncommitted changes is shown,
and never kept as a pass.

Tests that are skipped are collected from pytest's reports, so that the end of a run shows what it did not try.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as Xml
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
MAKE = ("make", "--no-print-directory")
PROGRAMS = ("etcd", "kwok", "virtctl", "kube-apiserver", "kube-controller-manager", "kube-scheduler",
            "kubelet", "kube-proxy")  # fmt: skip
"""What the core of e2e speaks to; kept in the user's cache by the modules' content, and built before the tests."""
CORE = "e2e and not proof"
SLOW = "e2e and proof"
FOLLOW_SECONDS = 0.5
"""How often what a lane has printed is shown."""
SLOWEST = "--durations=40 --durations-min=5"


@dataclass(frozen=True)
class Lane:
    """A command, what it is for, and what is added to the environment."""

    name: str
    about: str
    command: tuple[str, ...]
    extra: tuple[tuple[str, str], ...] = ()
    beside: bool = False
    """Whether it runs at the same time as the lane before it, if that one runs; its output comes afterwards."""


def e2e(name: str, about: str, *places: str, **extra: str) -> Lane:
    """Return a lane of those slow tests that are in some files or folders."""
    words = f"-m '{SLOW}' {' '.join(f'tests/e2e/{place}' for place in places)}"
    return Lane(name, about, (*MAKE, "e2e", f"TESTS={words}"), tuple(extra.items()))


LANES = {
    "ci": (
        Lane("programs", "Kubernetes' programs, built or found in the cache",
             (sys.executable, "-m", "tests.e2e.goprograms", *PROGRAMS)),
        Lane("test", "unit tests and tests with the real drivers", (*MAKE, "test")),
        Lane("lint", "style, types, layers", (*MAKE, "lint")),
        Lane("e2e", "the core of the tests of the whole system",
             (*MAKE, "e2e", f"TESTS=-m '{CORE}' {SLOWEST} tests/e2e"), (("POLYVISOR_FAULT_ROUNDS", "10"),)),
        Lane("lab-kvm", "a guest under real KVM, in an emulated machine", (*MAKE, "lab", "LANES=kvm")),
        Lane("clean-room-12", "a minimal Debian 12: make demo, tests", (*MAKE, "clean-room", "DEBIAN=12")),
    ),
    "proof": (
        Lane("clean-room-13", "a minimal Debian 13: make demo, tests", (*MAKE, "clean-room", "DEBIAN=13")),
        Lane("faults", "fifty rounds of kill -9", (*MAKE, "e2e", "TESTS=-m e2e tests/e2e/test_faults.py")),
        e2e("debian", "a whole Debian with systemd under each driver", "full"),
        e2e("older-kubernetes", "the oldest release of Kubernetes", "test_older_kubernetes.py"),
        e2e("pods", "machines in launcher Pods: what the core leaves out", "pods"),
        e2e("nodes", "two real nodes: installation, upgrade and removal; device plugins", "test_real_nodes.py",
            "test_devices.py"),
        e2e("migration", "live migration between two real nodes, drains, kills", "test_migration.py"),
        e2e("resilience", "components, certificates and the API server are lost", "test_resilience.py"),
        e2e("placement", "every case of both placement matrices", "test_placement.py", "test_mixed_cluster.py"),
        e2e("hosts", "a slow host, huge pages, dedicated CPUs", "test_new_host.py", "test_huge_pages.py",
            "test_own_cpus.py", "test_missing_driver.py"),
        e2e("peers", "libvirt's drivers for Xen and ESX against simulated peers", "test_libxl.py", "test_esx_wire.py"),
        e2e("cases", "each input that once went wrong, with a guest", "test_cases.py"),
        e2e("clients", "clients that others wrote, USB redirection; virtctl is in the core", "clients",
            "test_other_client.py", "test_usbredir.py"),
        Lane("lab-xen", "a guest on a real Xen as an endpoint, in an emulated machine", (*MAKE, "lab", "LANES=xen")),
        Lane("lab-dom0", "a guest on a real Xen as a node, in an emulated machine", (*MAKE, "lab", "LANES=dom0"),
             beside=True),
        Lane("release", "wheel, sdist, chart, images and checksums in dist/", (*MAKE, "release")),
        Lane("bench", "speed and memory; writes docs/performance.md", (*MAKE, "bench")),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Result:
    """How a lane ended."""

    passed: bool
    seconds: int
    when: float
    """Seconds since the epoch."""
    commit: str
    clean: bool
    """Whether the tree had no uncommitted changes."""


def cache() -> Path:
    """Return the folder of kept results."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "polyvisor" / "proof"


def git(*words: str) -> str:
    """Return what git prints, or nothing where this is no repository."""
    return subprocess.run(["git", "-C", TOP, *words], capture_output=True, text=True, check=False).stdout.strip()


def kept(lane: Lane, folder: Path) -> Result | None:
    """Return a lane's last result."""
    try:
        return Result(**json.loads((folder / f"{lane.name}.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def keep_result(lane: Lane, result: Result, folder: Path) -> None:
    """Keep a lane's result."""
    scratch = folder / f".{lane.name}.json"
    scratch.write_text(json.dumps(asdict(result)))
    scratch.replace(folder / f"{lane.name}.json")


def due(result: Result | None, commit: str, keep: bool) -> bool:
    """Whether a lane has to run."""
    return result is None or not (result.passed and result.clean) or (result.commit != commit and not keep)


@dataclass
class Running:
    """A lane that has begun."""

    lane: Lane
    log: Path
    process: subprocess.Popen[bytes]
    commit: str
    clean: bool
    begin: float

    def result(self) -> Result:
        """Wait for its end."""
        code = self.process.wait()
        return Result(code == 0, round(time.monotonic() - self.begin), time.time(), self.commit, self.clean)

    def interrupt(self) -> None:
        """End it, as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait()


def heed_interrupts() -> None:
    """Let Ctrl-C end this process, though whoever began the run in the background has it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(lane: Lane, folder: Path) -> Running:
    """Begin a lane; what it prints goes to its log."""
    report, log = folder / f"{lane.name}.xml", folder / f"{lane.name}.log"
    report.unlink(missing_ok=True)
    options = f"{os.environ.get('PYTEST_ADDOPTS', '')} --junitxml={report}".strip()
    commit, clean = git("rev-parse", "HEAD"), not git("status", "--porcelain")
    with log.open("wb") as file:
        process = subprocess.Popen(
            lane.command, cwd=TOP, env={**os.environ, "PYTEST_ADDOPTS": options, **dict(lane.extra)},
            stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, preexec_fn=heed_interrupts,
        )  # fmt: skip
    return Running(lane, log, process, commit, clean, time.monotonic())


def run(lanes: Sequence[Lane], folder: Path) -> list[Result]:
    """Run lanes at the same time; show what each prints, one after the other."""
    running: list[Running] = []
    results = []
    with ThreadPoolExecutor(len(lanes)) as waiting:
        try:
            running += (start(lane, folder) for lane in lanes)
            ends = [waiting.submit(one.result) for one in running]
            for one, end in zip(running, ends, strict=True):
                sys.stdout.write(f"\n==== {one.lane.name}: {one.lane.about}\n")
                follow(one.log, end)
                results.append(found := end.result())
                word = "passed" if found.passed else "FAILED"
                sys.stdout.write(f"==== {one.lane.name}: {word} in {found.seconds} s\n")
        except BaseException:  # interrupted: so are the lanes
            for one in running:
                one.interrupt()
            raise
    return results


def follow(log: Path, end: Future[Result]) -> None:
    """Print a log while it grows, until its lane has ended."""
    with log.open("rb") as file:
        while True:
            over = wait([end], timeout=FOLLOW_SECONDS).done
            while part := file.read(1 << 16):
                sys.stdout.buffer.write(part)
            sys.stdout.flush()
            if over:
                return


def together(lanes: Sequence[Lane]) -> list[list[Lane]]:
    """Return the lanes in groups that run at the same time."""
    groups: list[list[Lane]] = []
    for lane in lanes:
        if lane.beside and groups:
            groups[-1].append(lane)
        else:
            groups.append([lane])
    return groups


def skips(report: Path) -> Counter[str]:
    """Return reason -> number of the tests that a report says were skipped."""
    found: Counter[str] = Counter()
    if report.exists():
        for skipped in Xml.parse(report).iter("skipped"):
            if skipped.get("type") == "pytest.skip":
                found[(skipped.get("message") or "no reason given").splitlines()[0]] += 1
    return found


def age(seconds: float) -> str:
    """Return a length of time as people say it."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as columns of equal width."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "".join(f"  {line}\n" for line in lines)


def summary(results: Sequence[tuple[Lane, Result | None]], commit: str, now: float) -> str:
    """Return the table of lanes."""
    rows: list[tuple[str, ...]] = [("lane", "result", "seconds", "age", "commit")]
    for lane, result in results:
        if result is None:
            rows.append((lane.name, "not run", "", "", ""))
            continue
        at = (
            result.commit[:8]
            + ("" if result.clean else " with changes")
            + (" (this)" if result.commit == commit else "")
        )
        word = "passed" if result.passed else "FAILED"
        rows.append((lane.name, word, str(result.seconds), age(now - result.when), at))
    return table(rows)


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Run lanes and show them in one table.")
    parser.add_argument("set", choices=LANES)
    parser.add_argument("names", nargs="*", metavar="LANE")
    parser.add_argument("--again", action="store_true", help="run lanes that passed at this commit, too")
    parser.add_argument("--keep", action="store_true", help="accept lanes that passed at another commit")
    parser.add_argument("--list", action="store_true", help="show the table and run nothing")
    given = parser.parse_args()
    lanes = {lane.name: lane for lane in LANES[given.set]}
    if unknown := [name for name in given.names if name not in lanes]:
        parser.error(f"there is no lane {unknown[0]}; there are {', '.join(lanes)}")
    resumes = given.set == "proof"
    folder = cache() if resumes else TOP / "build" / "ci"
    folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    commit = git("rev-parse", "HEAD")
    found = {lane: kept(lane, folder) if resumes else None for lane in lanes.values()}
    chosen = [lane for lane in found if not given.list and (not given.names or lane.name in given.names)]
    for group in together([lane for lane in chosen if given.again or due(found[lane], commit, given.keep)]):
        for lane, result in zip(group, run(group, folder), strict=True):
            keep_result(lane, result, folder)
            found[lane] = result
    results = list(found.items())
    skipped = [
        (lane.name, str(number), reason)
        for lane, result in results
        if result
        for reason, number in sorted(skips(folder / f"{lane.name}.xml").items())
    ]
    if skipped:
        sys.stdout.write(f"\nskipped tests\n{table([('lane', 'tests', 'reason'), *skipped])}")
    sys.stdout.write(f"\nlanes\n{summary(results, commit, time.time())}")
    wanted = [result for lane, result in results if not given.names or lane.name in given.names]
    return 0 if given.list or all(result and result.passed for result in wanted) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
