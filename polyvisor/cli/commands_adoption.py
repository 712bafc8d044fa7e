"""``adopt``, ``unmanage``, ``move``: domains of endpoints become machines, are let go of, go to other hosts."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from polyvisor.cli.context import Context
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.options import DryRun, Machine, Namespace, Timeout, names
from polyvisor.cli.output import Output


class OldClaims(StrEnum):
    """What becomes of the claims that a move leaves."""

    KEEP = "keep"
    DELETE = "delete"


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command()(adopt)
    app.command()(unmanage)
    app.command()(move)


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


def move(
    ctx: typer.Context,
    machine: Machine,
    to: Annotated[str, typer.Option(metavar="DRIVER|ENDPOINT", help="Where the machine goes.")],
    namespace: Namespace = "",
    storage_class: Annotated[
        str, typer.Option(help="Class of the new claims; by default the endpoint's, or that of this machine.")
    ] = "",
    old_claims: Annotated[
        OldClaims, typer.Option(help="Keep or delete the old claims once the machine has run at its new place.")
    ] = OldClaims.KEEP,
    output: Annotated[
        Output, typer.Option("-o", "--output", help="Format of the report; wide shows what stays as well.")
    ] = Output.TABLE,
    dry_run: DryRun = False,
    timeout: Timeout = 3600,
) -> None:
    """Move a stopped virtual machine to another driver or endpoint, with copies of its disks.

    The report says first what changes, what is lost and what prevents the move. Exit code 3: something does.
    """
    from polyvisor.api.moved import DELETE, RETAIN
    from polyvisor.cli.moving import Wanted
    from polyvisor.cli.moving import move as act

    context = _context(ctx)
    if not context.local:
        what = (
            "move works with the installation of this machine; in a cluster nobody copies disks to and from hosts yet"
        )
        raise CliError(what, ExitCode.INVALID)
    session = context.connect()
    policy = DELETE if old_claims is OldClaims.DELETE else RETAIN
    wanted = Wanted(to, storage_class, policy, dry_run, timeout)
    act(session, namespace or session.namespace, machine, wanted, output)


def _context(ctx: typer.Context) -> Context:
    found = ctx.obj
    assert isinstance(found, Context)
    return found
