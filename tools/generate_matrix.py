"""Write ``docs/feature-matrix.md`` from the drivers' tables: ``python tools/generate_matrix.py [--check]``."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import groupby
from pathlib import Path

from pages import write_page

from polyvisor.drivers import registry
from polyvisor.drivers.answers import link
from polyvisor.drivers.base import Driver, Support, Verdict
from polyvisor.drivers.features import FEATURES
from polyvisor.drivers.limits import COUNTABLES
from polyvisor.drivers.rules import COMBINATIONS
from polyvisor.drivers.verdict import UNKNOWN

PATH = Path(__file__).resolve().parent.parent / "docs" / "feature-matrix.md"
MARKS = {Verdict.SUPPORTED: "yes", Verdict.CONDITIONAL: "if", Verdict.UNSUPPORTED: "no", Verdict.UNKNOWN: "?"}
HEAD = """<!-- Written by tools/generate_matrix.py from the drivers' tables, polyvisor/drivers/*/table.py. -->
<!-- Change those. -->
# What each driver can do

Admission, placement and `polyvisor explain` decide by this table, and the tests are made from it. *yes*: supported;
*if*: under the condition given below; *no*: not; *?*: it could not be found out, so it is refused. Each source,
a libvirt document or a place in libvirt's own code, is below; `polyvisor features -o json` has the same for scripts.
A driver that accepts a setting and does nothing with it does not support it.
"""


def generate() -> str:
    """Return the page."""
    drivers = list(registry())
    parts = [HEAD, _counts(drivers)]
    for group, features in groupby(FEATURES, key=lambda feature: feature.group):
        rows = list(features)
        parts.append(f"## {group}\n")
        parts.append(_row(["feature", "", *(f"[{d.name}](drivers/{d.name}.md)" for d in drivers)]))
        parts.append(_row(["---", "---", *[":-:"] * len(drivers)]))
        for feature in rows:
            marks = [MARKS[_answer(driver, feature.id).verdict] for driver in drivers]
            parts.append(_row([f"`{feature.id}`", feature.title, *marks]))
        parts.append("")
    parts.append("## limits\n")
    parts.append("How many a machine can have; more is refused like a feature that lacks. Empty: no number known.\n")
    parts.append(_row(["number of", *(f"[{d.name}](drivers/{d.name}.md)" for d in drivers)]))
    parts.append(_row(["---", *["--:"] * len(drivers)]))
    for one in COUNTABLES:
        found = [driver.limits.get(one.id) for driver in drivers]
        parts.append(_row([one.title, *(str(limit.most) if limit else "" for limit in found)]))
    parts.append("")
    parts.append("# Why, and where it is known from\n")
    for driver in drivers:
        parts.append(f"## {driver.title}\n")
        parts.append(_row(["feature", "answer", "why", "source"]))
        parts.append(_row(["---", "---", "---", "---"]))
        for feature in FEATURES:
            support = _answer(driver, feature.id)
            parts.append(_row([f"`{feature.id}`", str(support.verdict), _why(support), _source(support.source)]))
        for one in COUNTABLES:
            if limit := driver.limits.get(one.id):
                parts.append(_row([one.title, f"{limit.most} at most", limit.reason, _source(limit.source)]))
        for combination in COMBINATIONS:
            if rule := driver.rules.get(combination.id):
                parts.append(_row([combination.title, "refused", rule.reason, _source(rule.source)]))
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def _answer(driver: Driver, feature: str) -> Support:
    return driver.features.get(feature, UNKNOWN)


def _counts(drivers: list[Driver]) -> str:
    lines = [_row(["driver", *(str(verdict) for verdict in Verdict)]), _row(["---", *["--:"] * len(Verdict)])]
    for driver in drivers:
        counted = Counter(_answer(driver, feature.id).verdict for feature in FEATURES)
        lines.append(
            _row([f"[{driver.title}](drivers/{driver.name}.md)", *(str(counted[verdict]) for verdict in Verdict)])
        )
    return "\n".join(lines) + "\n"


def _why(support: Support) -> str:
    return "; ".join([*([support.reason] if support.reason else []), *support.needs])


def _source(source: str) -> str:
    address = link(source)
    text = source.replace("<", "&lt;")
    return text if not address or address in source else f"[{text}]({address})"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def main() -> int:
    """Write the page, or with ``--check`` say that it is out of step."""
    return write_page(PATH, generate, __doc__)


if __name__ == "__main__":
    sys.exit(main())
