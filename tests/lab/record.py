"""A lane's result as a proof: one ``[[real.lab]]`` entry of the driver's ``proofs.toml``, which docs/proofs.md shows.

Only ``make lab OPTIONS=--record`` writes it, and only for a lane that passed, so that the page says what really ran.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.lab.results import Result

DRIVERS = Path(__file__).resolve().parents[2] / "polyvisor" / "drivers"
HEAD = "[[real.lab]]"
MAX_SEEN = 90
"""Characters of a step's output in a proof."""


def entry(result: Result, date: str) -> str:
    """Return the entry in TOML; ``date`` is as in 2026-12-01. Strings of JSON are strings of TOML, too."""
    against = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    what = "; ".join(f"{step.name}: {_short(step.seen)}" if step.seen else step.name for step in result.steps)
    values = {
        "lane": result.lane, "date": date, "against": f"{against} (emulated machine)",
        "what": f"{what} (`make lab LANES={result.lane}`, {result.seconds:.0f} s)",
    }  # fmt: skip
    return "\n".join([HEAD, *(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items())])


def _short(text: str) -> str:
    """Return a line of output without its gaps, cut where it is long."""
    words = " ".join(text.split())
    return words if len(words) <= MAX_SEEN else f"{words[:MAX_SEEN].rstrip()} ..."


def recorded(text: str, result: Result, date: str) -> str:
    """Return a proof file with the lane's entry in the place of its last one."""
    parts = re.split(r"\n*(?=^\[)", text.rstrip(), flags=re.MULTILINE)
    mine = f'lane = "{result.lane}"'
    kept = [part for part in parts if part and not (part.startswith(HEAD) and mine in part)]
    return "\n\n".join([*(part.strip() for part in kept), entry(result, date)]) + "\n"


def record(result: Result, date: str) -> Path:
    """Write a lane's result into its driver's proof file, and return that."""
    path = DRIVERS / result.driver / "proofs.toml"
    path.write_text(recorded(path.read_text(), result, date))
    return path
