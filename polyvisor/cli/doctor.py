"""``doctor``: what this machine lacks for each driver, and the commands that install it.

Nothing is started: it looks for programs, files and devices. Whether a driver works is what ``drivers`` finds out.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from polyvisor import prerequisites
from polyvisor.cli.client import Obj
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.output import Output, columns, print_structured, say
from polyvisor.drivers import registry
from polyvisor.prerequisites import Prerequisite


class State(StrEnum):
    """What a driver lacks."""

    READY = "ready"
    INCOMPLETE = "incomplete"
    """Packages or settings are missing without which it does not work."""
    ELSEWHERE = "not for this machine"
    """It needs what no package and no setting brings: another kernel, a program from elsewhere."""


def doctor(names: Sequence[str], output: Output) -> None:
    """Print what is missing; exit code 1 if a driver lacks what it needs and this machine can have."""
    titles = {driver.name: driver.title for driver in registry() if prerequisites.of_driver(driver.name)}
    if unknown := [name for name in names if name not in titles]:
        raise CliError(f"no prerequisites are known for {unknown[0]!r}: {', '.join(titles)}", ExitCode.USAGE)
    report = [_examine(name, titles[name]) for name in names or titles]
    if output in (Output.JSON, Output.YAML):
        print_structured(report, output)
    elif output == Output.NAME:
        for driver in report:
            for one in driver["missing"]:
                say(one["name"])
    else:
        _table(report, wide=output == Output.WIDE)
    bad = (State.INCOMPLETE, State.ELSEWHERE) if names else (State.INCOMPLETE,)
    if any(driver["state"] in bad for driver in report):
        raise SystemExit(ExitCode.ERROR)


def _examine(name: str, title: str) -> Obj:
    lacking = [entry for entry in prerequisites.of_driver(name) if entry.missing()]
    state = _state([entry for entry in lacking if not entry.without])
    return {
        "name": name,
        "title": title,
        "state": str(state),
        "missing": [_entry(entry) for entry in lacking],
        "command": prerequisites.install_command(lacking) if state is not State.ELSEWHERE else "",
    }


def _state(required: Sequence[Prerequisite]) -> State:
    if not required:
        return State.READY
    if prerequisites.beyond_help(required):
        return State.ELSEWHERE
    return State.INCOMPLETE


def _entry(entry: Prerequisite) -> Obj:
    return {
        "name": ", ".join(entry.missing()),
        "package": entry.package(prerequisites.this_distribution()),
        "neededBy": entry.needed_by,
        "required": not entry.without,
        "without": entry.without,
        "command": prerequisites.install_command([entry]),
    }


def _table(report: Sequence[Obj], *, wide: bool) -> None:
    rows = [["DRIVER", "STATE", "MISSING", "WITHOUT IT", *(["NEEDED BY", "COMMAND"] if wide else [])]]
    for driver in report:
        first = [driver["name"], driver["state"]]
        for one in driver["missing"] or [{}]:
            without = "it does not work" if one.get("required") else one.get("without", "-")
            more = [one.get("neededBy", "-"), one.get("command") or "-"] if wide else []
            rows.append([*first, one.get("name", "-"), without, *more])
            first = ["", ""]
    for line in columns(rows):
        say(line)
    helped = [driver["name"] for driver in report if driver["command"]]
    lacking = [entry for name in helped for entry in prerequisites.of_driver(name) if entry.missing()]
    if command := prerequisites.install_command(lacking):
        say(f"\nTo install or enable all of it: {command}")
