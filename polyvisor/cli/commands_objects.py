"""The commands on objects of any kind: get, describe, apply, delete."""

from __future__ import annotations

from typing import Annotated

import typer

from polyvisor.cli.context import Context
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.options import AllNamespaces, DryRun, Files, Format, Namespace, Selector, Timeout, Wait, Words
from polyvisor.cli.output import Output


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command()(get)
    app.command()(describe)
    app.command()(apply)
    app.command()(delete)


def get(
    ctx: typer.Context,
    words: Words,
    namespace: Namespace = "",
    all_namespaces: AllNamespaces = False,
    selector: Selector = "",
    field_selector: Annotated[str, typer.Option(help="Field selector, such as status.phase=Running.")] = "",
    output: Format = Output.TABLE,
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Go on printing changes.")] = False,
) -> None:
    """Show objects: machines (vm, vmi), pods, nodes, events, ..."""
    from polyvisor.cli.get import get as show

    session = _context(ctx).connect()
    show(
        session,
        words,
        namespace=namespace or session.namespace,
        all_namespaces=all_namespaces,
        selector=selector,
        field_selector=field_selector,
        output=output,
        watch=watch,
    )


def describe(ctx: typer.Context, words: Words, namespace: Namespace = "") -> None:
    """Show all of an object, and its events."""
    from polyvisor.cli.get import describe as show

    session = _context(ctx).connect()
    show(session, words, namespace or session.namespace)


def apply(
    ctx: typer.Context,
    filename: Files,
    namespace: Namespace = "",
    output: Format = Output.TABLE,
    dry_run: DryRun = False,
    force_conflicts: Annotated[bool, typer.Option(help="Take over fields that somebody else manages.")] = False,
) -> None:
    """Create or change objects so that they are as a manifest says (server-side apply)."""
    from polyvisor.cli.change import apply as act

    act(_context(ctx).connect(), filename, namespace, force=force_conflicts, output=output, dry_run=dry_run)


def delete(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None, typer.Argument(help="TYPE NAME..., TYPE/NAME..., or TYPE with -l or --all")
    ] = None,
    filename: Annotated[
        list[str] | None, typer.Option("-f", "--filename", help="Delete what a manifest names.")
    ] = None,
    namespace: Namespace = "",
    selector: Selector = "",
    everything: Annotated[bool, typer.Option("--all", help="All objects of the kind in the namespace.")] = False,
    grace_period: Annotated[int, typer.Option(help="Seconds for a clean shutdown; the object's own if negative.")] = -1,
    cascade: Annotated[str, typer.Option(help="background, foreground or orphan.")] = "background",
    wait: Wait = True,
    timeout: Timeout = 0,
    ignore_not_found: Annotated[bool, typer.Option(help="No error if there is nothing to delete.")] = False,
    output: Format = Output.TABLE,
) -> None:
    """Delete objects and wait until they are gone; a machine is shut down cleanly first."""
    from polyvisor.cli.change import delete as act

    if cascade not in ("background", "foreground", "orphan"):
        raise CliError("--cascade takes background, foreground or orphan", ExitCode.USAGE)
    if not words and not filename:
        raise CliError("delete what?", ExitCode.USAGE, "Give TYPE NAME, or -f FILE.")
    act(
        _context(ctx).connect(),
        words or [],
        filename or [],
        namespace,
        selector=selector,
        everything=everything,
        grace_period=grace_period,
        cascade=cascade,
        wait=wait,
        timeout=timeout,
        ignore_missing=ignore_not_found,
        output=output,
    )


def _context(ctx: typer.Context) -> Context:
    found = ctx.obj
    assert isinstance(found, Context)
    return found
