"""``drivers``: which hypervisor drivers work on this node, and why the others do not.

The node's own report is shown where Polyvisor runs; where it does not, the drivers are tried here and now.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyvisor.api import node_names
from polyvisor.api.reading import annotations_of
from polyvisor.api.resources import NODES
from polyvisor.cli.client import Obj
from polyvisor.cli.context import Context
from polyvisor.cli.output import Output, note, print_structured, say
from polyvisor.cli.plugins import tell_left_out
from polyvisor.kube.errors import ApiError
from polyvisor.standalone.state import StateFolder, running

if TYPE_CHECKING:
    from polyvisor.agent.node.prober import Prober
    from polyvisor.cli.client import Client
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
        text = annotations_of(node).get(node_names.DRIVERS_ANNOTATION)
        if text:
            report = json.loads(text)
            if isinstance(report, list):
                return report
    return []


def try_again(client: Client, timeout: float | None = None) -> list[Obj]:
    """Have the agent of this machine's installation try the drivers again; return their report as it is then.

    What works is remembered by what it depends on, so that takes long only where something has changed, or fails
    slowly. ``timeout`` is in seconds. A process that cannot be asked, since it is of an earlier release or its agent is
    still starting, has the Node's report. Raises :class:`ApiError`.
    """
    from polyvisor.cli.client import Client

    asking = Client(client.connection, timeout)
    try:
        report: list[Obj] = asking.request("POST", node_names.DRIVERS_PATH)["drivers"]
    except ApiError as error:
        if error.code not in (HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE):
            raise
        return of_nodes(client.get(NODES.path()).get("items") or [])
    finally:
        asking.close()
    return report


def lacking(report: Sequence[Obj], names: Sequence[str]) -> list[Obj]:
    """Return those of the named drivers that do not work; none if one of them does, or nobody knows them."""
    known = [one for one in report if one["name"] in names]
    return [] if any(one["available"] for one in known) else known


def _of_running(state: StateFolder) -> list[Obj] | None:
    try:
        if not (running(state.pid_file) or {}).get("ready"):
            return None
    except PermissionError:
        return None
    return try_again(Context(str(state.kubeconfig), "", state).connect().client)


def _probed(state: StateFolder) -> list[Obj]:
    import asyncio

    from polyvisor.agent.node.prober import Prober
    from polyvisor.agent.node.probing import report_of
    from polyvisor.drivers import registry

    note("Polyvisor is not running here: trying the drivers now, which may take some seconds.")
    drivers = list(registry())
    with ExitStack() as stack:
        scratch = state.probe
        if not _writable(scratch):
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pv")))
        results = asyncio.run(_ask(Prober(drivers, scratch)))
        return report_of(drivers, results, advise=True)


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
