"""``make lab``: run lanes of the laboratory, and show them in one table.

The command fails if a lane fails; every lane runs all the same. Results and logs of each stay in ``build/lab/LANE``.
"""

from __future__ import annotations

import argparse
import datetime
import signal
import sys

from tests.lab import results, staging
from tests.lab.errors import LabError
from tests.lab.lanes import dom0, kvm, xen
from tests.lab.record import record
from tests.lab.results import Result
from tests.lab.roots import say

LANES = {lane.NAME: lane for lane in (kvm, xen, dom0)}


def run(name: str) -> Result:
    """Run one lane; what stops it becomes its result."""
    lane = LANES[name]
    say(f"{name}: begins")
    try:
        result = lane.run()
    except LabError as error:
        result = Result(name, lane.DRIVER, wrong=str(error))
    folder = staging.LOGS / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(result.to_json())
    for step in result.steps:
        say(f"{name}: {step.seconds:6.1f} s  {step.name}: {step.seen}")
    return result


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Run real hypervisors in emulated machines.")
    parser.add_argument("lanes", nargs="*", metavar="LANE", help=f"of {', '.join(LANES)}; all by default")
    parser.add_argument("--record", action="store_true", help="write what passed into the drivers' proofs.toml")
    given = parser.parse_args()
    if unknown := [name for name in given.lanes if name not in LANES]:
        parser.error(f"there is no lane {unknown[0]}; there are {', '.join(LANES)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    found = [run(name) for name in given.lanes or LANES]
    for result in found:
        if given.record and result.passed:
            say(f"recorded in {record(result, datetime.date.today().isoformat())}")
    sys.stdout.write(f"\n{results.table(found)}")
    return 0 if all(result.passed for result in found) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
