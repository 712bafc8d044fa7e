"""The commands that show what a machine comes to: explain, features, expand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polyvisor.cli.context import Context
from polyvisor.cli.options import Format, Namespace
from polyvisor.cli.output import Output


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command()(explain)
    app.command()(features)
    app.command()(expand)


def explain(
    files: Annotated[
        list[str] | None, typer.Argument(metavar="FILE...", help="Manifest, folder, or - for standard input.")
    ] = None,
    filename: Annotated[list[str] | None, typer.Option("-f", "--filename", help="The same as FILE.")] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="KUBECONFIG", help="Judge by this cluster's nodes and configuration too.")
    ] = None,
    output: Format = Output.TABLE,
) -> None:
    """Say which drivers can run a manifest's machines, why the others cannot, and what would make them fit.

    Needs no cluster and no hypervisor. Exit code 0: every machine can run as written; 3: one cannot.
    """
    from polyvisor.cli.explain import explain as act

    act([*(files or []), *(filename or [])], against, output)


def features(
    driver: Annotated[
        list[str] | None, typer.Option("--driver", metavar="NAME", help="Show these drivers only.")
    ] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option("--feature", metavar="ID", help="Show these features only; ID or a group such as disk."),
    ] = None,
    output: Format = Output.TABLE,
) -> None:
    """Show what each driver can do: the table that all decisions come from, with its sources."""
    from polyvisor.cli.features import features as act

    act(driver or [], feature or [], output)


def expand(
    ctx: typer.Context,
    vm: Annotated[str, typer.Option(help="A virtual machine of the cluster.")] = "",
    file: Annotated[
        list[str] | None, typer.Option("-f", "--file", help="File, folder, or - for standard input.")
    ] = None,
    namespace: Namespace = "",
    output: Format = Output.YAML,
) -> None:
    """Print a virtual machine with its instance type and preference written out."""
    from polyvisor.cli.expand import expand as act

    context = ctx.obj
    assert isinstance(context, Context)
    session = context.connect()
    act(session, namespace or session.namespace, vm, file or [], output)
