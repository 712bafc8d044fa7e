"""``features``: the table of features and drivers, as a grid for people and with every source for scripts."""

from __future__ import annotations

from collections.abc import Sequence

from polyvisor.api import Obj, nearest
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.output import Output, columns, print_structured, say
from polyvisor.cli.plugins import tell_left_out
from polyvisor.drivers import registry
from polyvisor.drivers.answers import link
from polyvisor.drivers.base import Driver, Support, Verdict
from polyvisor.drivers.features import FEATURES, Feature
from polyvisor.drivers.verdict import answer_of

MARKS = {
    Verdict.SUPPORTED: ("yes", "green"),
    Verdict.CONDITIONAL: ("if", "yellow"),
    Verdict.UNSUPPORTED: ("-", "dim"),
    Verdict.UNKNOWN: ("?", "red"),
}


def features(driver_names: Sequence[str], feature_ids: Sequence[str], output: Output) -> None:
    """Print the part of the table that is asked for."""
    tell_left_out()
    drivers = _drivers(driver_names)
    rows = _features(feature_ids)
    if output in (Output.JSON, Output.YAML):
        print_structured(as_data(drivers, rows), output)
    elif output == Output.NAME:
        for feature in rows:
            say(feature.id)
    elif output == Output.WIDE:
        _sources(drivers, rows)
    elif len(drivers) == 1 or len(rows) == 1:
        _answers(drivers, rows)
    else:
        _grid(drivers, rows)


def as_data(drivers: Sequence[Driver], features: Sequence[Feature]) -> Obj:
    """Return the table as JSON: ``drivers``, and ``features`` with one answer a driver."""
    return {
        "drivers": [{"name": d.name, "title": d.title, "links": list(d.links), "uris": list(d.uris)} for d in drivers],
        "features": [
            {
                "id": feature.id,
                "title": feature.title,
                "fields": sorted(set(feature.wire_places)),
                "drivers": {driver.name: _as_obj(answer_of(driver, feature.id)) for driver in drivers},
            }
            for feature in features
        ],
    }


def _as_obj(support: Support) -> Obj:
    obj: Obj = {"verdict": str(support.verdict), "source": support.source}
    for key, value in (
        ("reason", support.reason),
        ("link", link(support.source)),
        ("minLibvirt", support.min_libvirt),
        ("minHypervisor", support.min_hypervisor),
        ("virtTypes", list(support.virt_types)),
        ("architectures", list(support.architectures)),
        ("nodeFact", support.node_fact),
        ("nodeCpu", support.node_cpu),
        ("nodeMachine", support.node_machine),
    ):
        if value:
            obj[key] = value
    return obj


def _drivers(names: Sequence[str]) -> list[Driver]:
    known = registry()
    found = []
    for name in names:
        driver = known.get(name)
        if driver is None:
            near = nearest(name, known.names())
            hint = f" Did you mean {near}?" if near else ""
            raise CliError(
                f"no driver has the name {name!r}", ExitCode.NOT_FOUND, f"Known: {', '.join(known.names())}.{hint}"
            )
        found.append(driver)
    return found or list(known)


def _features(ids: Sequence[str]) -> list[Feature]:
    chosen: set[str] = set()
    for wanted in ids:
        matching = {f.id for f in FEATURES if f.id == wanted or f.id.startswith(f"{wanted}.")}
        if not matching:
            near = nearest(wanted, [f.id for f in FEATURES])
            hint = f"Did you mean {near}?" if near else "`polyvisor features -o name` lists them."
            raise CliError(f"no feature has the id {wanted!r}", ExitCode.NOT_FOUND, hint)
        chosen |= matching
    return [f for f in FEATURES if not ids or f.id in chosen]


def _grid(drivers: Sequence[Driver], rows: Sequence[Feature]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("FEATURE", no_wrap=True)
    for driver in drivers:
        table.add_column(driver.name, justify="center", no_wrap=True)
    for feature in rows:
        marks = [MARKS[answer_of(driver, feature.id).verdict] for driver in drivers]
        table.add_row(feature.id, *(Text(text, style) for text, style in marks))
    console = Console(highlight=False)
    console.print(table)
    console.print(
        "yes: supported; if: under a condition; -: not; ?: not known, so refused. With -o wide: why, and the sources."
    )


def _answers(drivers: Sequence[Driver], rows: Sequence[Feature]) -> None:
    """Print a line for each pair of feature and driver, with the reason."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, pad_edge=False)
    for title in ("FEATURE", "DRIVER", "ANSWER"):
        table.add_column(title, no_wrap=True)
    table.add_column("WHY", overflow="fold")
    for feature in rows:
        for driver in drivers:
            support = answer_of(driver, feature.id)
            style = MARKS[support.verdict][1]
            table.add_row(feature.id, driver.name, Text(str(support.verdict), style), support.reason)
    Console(highlight=False).print(table)


def _sources(drivers: Sequence[Driver], rows: Sequence[Feature]) -> None:
    """Print everything, a line each and never folded, as one would grep it."""
    lines = [["FEATURE", "DRIVER", "ANSWER", "SOURCE", "WHY"]]
    for feature in rows:
        for driver in drivers:
            support = answer_of(driver, feature.id)
            lines.append([feature.id, driver.name, str(support.verdict), support.source or "-", support.reason])
    for line in columns(lines):
        say(line)
