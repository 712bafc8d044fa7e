"""How objects and tables are printed: aligned columns as kubectl has them, YAML, JSON, names."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from polyvisor.api.reading import nested

Obj = dict[str, Any]
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a terminal obeys. Messages, names and XML may be a guest's or a host's words."""


class Output(StrEnum):
    """Values of ``-o``."""

    TABLE = "table"
    WIDE = "wide"
    YAML = "yaml"
    JSON = "json"
    NAME = "name"


def say(text: str = "") -> None:
    """Write a line to standard output."""
    sys.stdout.write(_CONTROL.sub("?", text) + "\n")


def note(text: str) -> None:
    """Write a line to standard error: progress and remarks, nothing that a script would parse."""
    sys.stderr.write(_CONTROL.sub("?", text) + "\n")
    sys.stderr.flush()


def print_structured(value: Any, output: Output) -> None:
    """Print as YAML or JSON."""
    if output == Output.JSON:
        written = json.dumps(value, indent=4, ensure_ascii=False)
        say(_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", written))
        return
    import yaml

    sys.stdout.write(yaml.safe_dump(value, sort_keys=True, allow_unicode=True, default_flow_style=False, width=1000))


def columns(rows: Sequence[Sequence[str]], widths: list[int] | None = None) -> list[str]:
    """Align rows in columns three blanks apart; ``widths`` carries over between calls while watching."""
    widths = widths if widths is not None else []
    for row in rows:
        widths += [0] * (len(row) - len(widths))
        for index, cell in enumerate(row):
            widths[index] = max(widths[index], len(cell))
    return ["   ".join(cell.ljust(widths[i]) for i, cell in enumerate(row)).rstrip() for row in rows]


def table_rows(table: Obj, wide: bool, namespace: bool, prefix: str = "") -> tuple[list[str], list[list[str]]]:
    """Return the header and the cells of a server's ``Table``; names get ``prefix``."""
    definitions = table.get("columnDefinitions") or []
    shown = [i for i, d in enumerate(definitions) if wide or not d.get("priority")]
    header = (["NAMESPACE"] if namespace else []) + [definitions[i]["name"].upper() for i in shown]
    rows = []
    for row in table.get("rows") or []:
        cells = [_cell(row["cells"][i]) for i in shown]
        if prefix and cells:
            cells[0] = f"{prefix}/{cells[0]}"
        if namespace:
            cells.insert(0, nested(row, "object", "metadata").get("namespace", ""))
        rows.append(cells)
    return header, rows


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def age(timestamp: str | None) -> str:
    """Return how long ago an RFC 3339 time was, as kubectl shows it."""
    if not timestamp:
        return "<unknown>"
    seconds = max(0, int((datetime.now(UTC) - datetime.fromisoformat(timestamp)).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            rest = {"d": ("h", 3600), "h": ("m", 60), "m": ("s", 1)}[unit]
            spare = seconds % size // rest[1]
            return f"{seconds // size}{unit}" + (f"{spare}{rest[0]}" if spare and seconds < 10 * size else "")
    return f"{seconds}s"
