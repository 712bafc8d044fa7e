"""``make bench``: measure, print, and write docs/performance.md."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from bench import choice, idle, memory, start
from bench.home import delete_and_wait, home, machine, post_and_wait
from bench.report import Report, facts

DRIVERS = ("qemu", "lxc")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"


async def measure(pairs: int, seconds: float) -> Report:
    """Measure everything, in an installation of its own."""
    chosen = choice.measure(pairs)
    with home() as one:
        quiet = [idle.measure(one.pid, 0, seconds)]
        pairs_of = [await start.measure(one, driver, pairs) for driver in DRIVERS]
        costs = [await memory.measure(one, driver, count) for driver in DRIVERS for count in (1, 5)]
        async with one.client() as client:
            for driver in DRIVERS:
                await post_and_wait(client, machine(f"idle-{driver}", driver))
            quiet.append(idle.measure(one.pid, len(DRIVERS), seconds))
            for driver in DRIVERS:
                await delete_and_wait(client, f"idle-{driver}")
    return Report(facts(), pairs_of, costs, quiet, chosen)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--pairs", type=int, default=10, help="pairs of starts a driver (default 10)")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds of watching an idle process (default 20)")
    parser.add_argument("--print-only", action="store_true", help="leave docs/performance.md as it is")
    given = parser.parse_args()
    report = asyncio.run(measure(given.pairs, given.idle))
    report.show()
    if not given.print_only:
        PAGE.write_text(report.page())


if __name__ == "__main__":
    main()
