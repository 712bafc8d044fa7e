"""The commands on live migrations: migrate, migrate-cancel, evacuate-cancel."""

from __future__ import annotations

from typing import Annotated

import typer

from polyvisor.cli.context import Context, Session
from polyvisor.cli.options import DryRun, Machine, MachineWords, Namespace


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    for command in (migrate, migrate_cancel, evacuate_cancel):
        app.command()(command)


def migrate(
    ctx: typer.Context,
    name: Machine,
    namespace: Namespace = "",
    added_node_selector: Annotated[
        list[str] | None,
        typer.Option(
            "--addedNodeSelector", "--added-node-selector", help="LABEL=VALUE that the target node must have."
        ),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Move a running virtual machine (vm) to another node."""
    from polyvisor.cli.migrations import migrate as act

    session, namespace = _session(ctx, namespace)
    act(session, namespace, name, added_node_selector or [], dry_run=dry_run)


def migrate_cancel(ctx: typer.Context, name: Machine, namespace: Namespace = "", dry_run: DryRun = False) -> None:
    """Give up the migration of a virtual machine (vm)."""
    from polyvisor.cli.migrations import cancel as act

    session, namespace = _session(ctx, namespace)
    act(session, namespace, name, dry_run=dry_run)


def evacuate_cancel(
    ctx: typer.Context, words: MachineWords, namespace: Namespace = "", dry_run: DryRun = False
) -> None:
    """Keep a virtual machine on its node that a drain was to move."""
    from polyvisor.cli.migrations import stay as act

    session, namespace = _session(ctx, namespace)
    act(session, namespace, words, dry_run=dry_run)


def _session(ctx: typer.Context, namespace: str) -> tuple[Session, str]:
    found = ctx.obj
    assert isinstance(found, Context)
    session = found.connect()
    return session, namespace or session.namespace
