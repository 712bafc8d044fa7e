"""``adopt`` and ``unmanage``: domains of endpoints become virtual machines, and are let go of again."""

from __future__ import annotations

from typing import Annotated

import typer

from polyvisor.cli.context import Context
from polyvisor.cli.options import DryRun, Namespace, Timeout, names
from polyvisor.cli.output import Output


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command()(adopt)
    app.command()(unmanage)


def adopt(
    ctx: typer.Context,
    domains: Annotated[list[str], typer.Argument(metavar="ENDPOINT/DOMAIN...", help="Domains, by name or UUID.")],
    selector: Annotated[
        str, typer.Option("-l", "--selector", help="Pattern of domains' names, such as 'web-*', of one ENDPOINT.")
    ] = "",
    namespace: Namespace = "",
    name: Annotated[str, typer.Option(help="Name of the machine; by default made of the domain's.")] = "",
    output: Annotated[
        Output | None, typer.Option("-o", "--output", help="Format of the manifests; wide reports every setting.")
    ] = None,
    dry_run: DryRun = False,
    timeout: Timeout = 120,
) -> None:
    """Take over domains of an endpoint's host as virtual machines, without touching the guests.

    Each disk becomes a volume and a claim. Nothing is done unless all of the domains can be adopted. Exit code 3: one
    cannot.
    """
    from polyvisor.cli.adopting import Wanted
    from polyvisor.cli.adopting import adopt as act

    act(_context(ctx).connect(), domains, Wanted(namespace, name, selector), output, dry_run=dry_run, timeout=timeout)


def unmanage(
    ctx: typer.Context,
    machines: Annotated[list[str], typer.Argument(metavar="VM...", help="Names of machines.", autocompletion=names)],
    namespace: Namespace = "",
    timeout: Timeout = 120,
) -> None:
    """Let go of virtual machines on endpoints: their domains run on, and only the objects are removed."""
    from polyvisor.cli.unmanaging import unmanage as act

    session = _context(ctx).connect()
    act(session, namespace or session.namespace, machines, timeout)


def _context(ctx: typer.Context) -> Context:
    found = ctx.obj
    assert isinstance(found, Context)
    return found
