"""``drivers``: which hypervisor drivers work on this node, and why the others do not.

The node's own report is shown where Polyvisor runs; where it does not, the drivers are tried here and now.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyvisor.api import node_names
from polyvisor.cli.client import Obj
from polyvisor.cli.context import Context
from polyvisor.cli.output import Output, note, print_structured, say
from polyvisor.cli.plugins import tell_left_out
from polyvisor.standalone.state import StateFolder, running

if TYPE_CHECKING:
    from polyvisor.agent.prober import Prober
    from polyvisor.drivers.base import ProbeResult


def show(state: StateFolder, output: Output) -> None:
    """Print all drivers."""
    report = _of_running(state)
    if report is None:
        report = _probed(state)
    if output in (Output.JSON, Output.YAML):
        print_structured(report, output)
    elif output == Output.NAME:
        for driver in report:
            say(driver["name"])
    else:
        _table(report)
    tell_left_out()


def of_nodes(nodes: Sequence[Obj]) -> list[Obj]:
    """Return the report of the first node that has one."""
    for node in nodes:
        text = (node["metadata"].get("annotations") or {}).get(node_names.DRIVERS_ANNOTATION)
        if text:
            report = json.loads(text)
            if isinstance(report, list):
                return report
    return []


def _of_running(state: StateFolder) -> list[Obj] | None:
    try:
        if not (running(state.pid_file) or {}).get("ready"):
            return None
    except PermissionError:
        return None
    session = Context(str(state.kubeconfig), "", state).connect()
    return of_nodes(session.client.get("/api/v1/nodes").get("items") or [])


def _probed(state: StateFolder) -> list[Obj]:
    import asyncio

    from polyvisor.agent.prober import Prober
    from polyvisor.agent.probing import annotation_of
    from polyvisor.drivers import registry

    note("Polyvisor is not running here: trying the drivers now, which may take some seconds.")
    drivers = list(registry())
    with ExitStack() as stack:
        scratch = state.probe
        if not _writable(scratch):
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pv")))
        results = asyncio.run(_ask(Prober(drivers, scratch)))
        report: list[Obj] = json.loads(annotation_of(drivers, results, advise=True))
    return report


async def _ask(prober: Prober) -> dict[str, ProbeResult]:
    try:
        await prober.ask()
        return prober.results
    finally:
        await prober.stop()


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _table(report: Sequence[Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, pad_edge=False)
    for title in ("DRIVER", "AVAILABLE", "VERSION", "LIBVIRT", "VIRT TYPES", "REASON"):
        table.add_column(title, overflow="fold")
    for driver in report:
        table.add_row(
            driver["name"],
            Text("yes", "green") if driver["available"] else Text("no", "yellow"),
            driver["version"] or "-",
            driver["libvirtVersion"] or "-",
            ", ".join(driver["virtTypes"]) or "-",
            Text(driver["reason"] or ""),
        )
    Console(highlight=False).print(table)
