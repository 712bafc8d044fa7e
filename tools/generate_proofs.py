"""Write ``docs/proofs.md`` from the drivers' ``proofs.toml``: ``python tools/generate_proofs.py [--check]``.

A proof file has one table for each level. ``status`` is ``done``, ``partly``, ``todo`` or ``exempt``. What is done says
what was proved and by which command, the rest says why not. ``[[real.lab]]`` are results of ``make lab`` and of
machines elsewhere. A command that names a test which is not there fails, so that a proof cannot outlive its test.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

from pages import write_page

from polyvisor.drivers import registry

ROOT = Path(__file__).resolve().parent.parent
PATH = ROOT / "docs" / "proofs.md"
TEXT = ROOT / "tools" / "data" / "proofs.md"
DRIVERS = ROOT / "polyvisor" / "drivers"
FURTHER = {"libvirt's `test` driver, as a package from elsewhere": ROOT / "tests" / "plugin" / "proofs.toml"}
NOTE = "<!-- Written by tools/generate_proofs.py from polyvisor/drivers/*/proofs.toml and tools/data/proofs.md. -->\n"
LEVELS = ("schema", "parser", "wire", "real")
PROVED, OPEN = ("done", "partly"), ("todo", "exempt")
WORDS = {"partly": "partly: ", "todo": "open: ", "exempt": "does not apply: "}
Proofs = dict[str, Any]


def flaws(proofs: Proofs, root: Path = ROOT) -> list[str]:
    """Say what is wrong with a proof file; empty if nothing is."""
    found = [f"{level}: missing" for level in LEVELS if level not in proofs]
    found += [f"{level}: is not one of {', '.join(LEVELS)}" for level in proofs if level not in LEVELS]
    for level in LEVELS:
        proof = proofs.get(level, {"status": "todo", "reason": "-"})
        status = proof.get("status")
        if status not in (*PROVED, *OPEN):
            found.append(f"{level}.status: found {status!r}; accepted: {', '.join((*PROVED, *OPEN))}")
            continue
        needed = ("what", "show") if status in PROVED else ("reason",)
        found += [f"{level}.{name}: required for {status}" for name in needed if not proof.get(name)]
        tests = [word for word in proof.get("show", "").split() if word.startswith("tests/")]
        found += [
            f"{level}.show: there is no {test}" for test in tests if not (root / test.partition("::")[0]).exists()
        ]
        for number, lab in enumerate(proof.get("lab", [])):
            missing = [name for name in ("date", "against", "what") if not lab.get(name)]
            found += [f"{level}.lab[{number}].{name}: required" for name in missing]
    return found


def generate() -> str:
    """Return the page; raise ValueError for a proof file that is wrong."""
    files = {driver.title: DRIVERS / driver.name / "proofs.toml" for driver in registry()} | FURTHER
    read = {title: tomllib.loads(path.read_text()) for title, path in files.items()}
    wrong = [f"{files[title].relative_to(ROOT)}: {flaw}" for title, proofs in read.items() for flaw in flaws(proofs)]
    if wrong:
        raise ValueError("\n".join(wrong))
    rows = [("driver", *LEVELS), ("---",) * (len(LEVELS) + 1)]
    rows += [(title, *(_cell(proofs[level]) for level in LEVELS)) for title, proofs in read.items()]
    table = "\n".join(_row(row) for row in rows)
    return NOTE + TEXT.read_text().replace("{table}", table).replace("{laboratory}", _laboratory(read)).rstrip() + "\n"


def _cell(proof: Proofs) -> str:
    if proof["status"] in OPEN:
        return WORDS[proof["status"]] + str(proof["reason"])
    return f"{WORDS.get(proof['status'], '')}{proof['what']} (`{proof['show']}`)"


def _laboratory(read: dict[str, Proofs]) -> str:
    rows = [
        (title, str(lab["date"]), lab["against"], lab["what"])
        for title, proofs in read.items()
        for level in LEVELS
        for lab in proofs[level].get("lab", [])
    ]
    if not rows:
        return ""
    table = [("driver", "date", "against", "what was seen"), ("---",) * 4, *rows]
    return "## In a laboratory\n\n" + "\n".join(_row(row) for row in table)


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def main() -> int:
    """Write the page, or with ``--check`` say that it is out of step."""
    try:
        return write_page(PATH, generate, __doc__)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
