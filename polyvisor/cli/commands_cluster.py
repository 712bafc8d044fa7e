"""The commands on a whole cluster: install and uninstall."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polyvisor.api import names
from polyvisor.cli.context import Context
from polyvisor.cli.options import Timeout


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    for command in (install, uninstall):
        app.command()(command)


Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Where Polyvisor's own parts live.")]


def install(
    ctx: typer.Context,
    namespace: Namespace = names.KUBEVIRT_NAMESPACE,
    values: Annotated[list[Path] | None, typer.Option(help="YAML files of the chart's values.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="One value: name.of.value=yaml.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Print the manifests and change nothing.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait until everything works.")] = True,
    timeout: Timeout = 300,
) -> None:
    """Put Polyvisor into a Kubernetes cluster, or upgrade it there. Machines go on running."""
    from polyvisor.cli.cluster import install as act

    act(_context(ctx), namespace, values or [], set_ or [], dry_run=dry_run, wait=wait, timeout=timeout)


def uninstall(
    ctx: typer.Context,
    namespace: Namespace = names.KUBEVIRT_NAMESPACE,
    delete_machines: Annotated[bool, typer.Option(help="Shut all machines down and delete them first.")] = False,
    timeout: Timeout = 300,
) -> None:
    """Take Polyvisor out of a cluster, so that nothing is left of it. Refuses while there are machines."""
    from polyvisor.cli.cluster import uninstall as act

    act(_context(ctx), namespace, delete_machines=delete_machines, timeout=timeout)


def _context(ctx: typer.Context) -> Context:
    found = ctx.obj
    assert isinstance(found, Context)
    return found
