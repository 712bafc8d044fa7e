"""The commands on machines: start, stop, restart, pause, unpause, console, logs, run."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from polyvisor.cli.context import Context
from polyvisor.cli.options import DryRun, Machine, MachineWords, Namespace, Timeout

WaitFor = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the effect, not just for the answer.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    for command in (start, stop, restart, pause, unpause, console, logs, run):
        app.command()(command)


def start(
    ctx: typer.Context,
    name: Machine,
    namespace: Namespace = "",
    paused: Annotated[bool, typer.Option(help="Start it paused.")] = False,
    dry_run: DryRun = False,
    wait: WaitFor = False,
    timeout: Timeout = 120,
) -> None:
    """Start a virtual machine (vm)."""
    _vm_action(ctx, namespace, name, "start", {"paused": True} if paused else {}, dry_run, wait, timeout)


def stop(
    ctx: typer.Context,
    name: Machine,
    namespace: Namespace = "",
    grace_period: Annotated[
        int, typer.Option(help="Seconds for a clean shutdown; the machine's own if negative.")
    ] = -1,
    force: Annotated[bool, typer.Option(help="Do not ask the guest: like --grace-period 0.")] = False,
    dry_run: DryRun = False,
    wait: WaitFor = False,
    timeout: Timeout = 120,
) -> None:
    """Shut a virtual machine (vm) down."""
    grace = 0 if force and grace_period < 0 else grace_period
    _vm_action(ctx, namespace, name, "stop", {"gracePeriod": grace} if grace >= 0 else {}, dry_run, wait, timeout)


def restart(
    ctx: typer.Context,
    name: Machine,
    namespace: Namespace = "",
    grace_period: Annotated[int, typer.Option(help="Seconds for a clean shutdown; only 0 can be given.")] = -1,
    force: Annotated[bool, typer.Option(help="Do not ask the guest to shut down: like --grace-period 0.")] = False,
    dry_run: DryRun = False,
    wait: WaitFor = False,
    timeout: Timeout = 120,
) -> None:
    """Shut a virtual machine (vm) down and start it again."""
    grace = 0 if force and grace_period < 0 else grace_period
    body = {"gracePeriodSeconds": grace} if grace >= 0 else {}
    _vm_action(ctx, namespace, name, "restart", body, dry_run, wait, timeout)


def pause(
    ctx: typer.Context,
    words: MachineWords,
    namespace: Namespace = "",
    dry_run: DryRun = False,
) -> None:
    """Freeze a running machine's processors."""
    from polyvisor.cli.lifecycle import pause as act

    session = _context(ctx).connect()
    act(session, namespace or session.namespace, words, "pause", dry_run)


def unpause(
    ctx: typer.Context,
    words: MachineWords,
    namespace: Namespace = "",
    dry_run: DryRun = False,
) -> None:
    """Let a paused machine go on."""
    from polyvisor.cli.lifecycle import pause as act

    session = _context(ctx).connect()
    act(session, namespace or session.namespace, words, "unpause", dry_run)


def console(
    ctx: typer.Context,
    name: Machine,
    namespace: Namespace = "",
    idle: Annotated[float, typer.Option(help="With piped input: end after so many silent seconds.")] = 2.0,
    timeout: Annotated[int, typer.Option(help="Wait so many minutes for the machine to run.")] = 0,
) -> None:
    """Join the serial console of a machine; ^] leaves it. Only one can be joined: a new one closes the old."""
    from polyvisor.cli.console import attach
    from polyvisor.cli.lifecycle import await_running, machine_name

    session = _context(ctx).connect()
    name, namespace = machine_name(name), namespace or session.namespace
    if timeout > 0:
        await_running(session, namespace, name, timeout * 60)
    attach(session.client, namespace, name, idle)


def logs(
    ctx: typer.Context,
    name: Machine,
    namespace: Namespace = "",
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on printing.")] = False,
    tail: Annotated[int, typer.Option(help="Only the last so many lines.")] = -1,
    launcher: Annotated[bool, typer.Option(help="The launcher's own log instead of the guest's console.")] = False,
) -> None:
    """Print what the guest has written to its serial console."""
    from polyvisor.cli.lifecycle import machine_name
    from polyvisor.cli.logs import logs as show

    session = _context(ctx).connect()
    show(session, namespace or session.namespace, machine_name(name), follow=follow, tail=tail, launcher=launcher)


def run(
    ctx: typer.Context,
    files: Annotated[list[str] | None, typer.Argument(metavar="FILE...")] = None,
    filename: Annotated[list[str] | None, typer.Option("-f", "--filename", help="The same as FILE.")] = None,
    namespace: Namespace = "",
    console: Annotated[bool, typer.Option(help="Join the console of the (only) machine when it runs.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout", help="Give up waiting after so many seconds; by default 180, more on a slow machine."
        ),
    ] = None,
) -> None:
    """Start Polyvisor if needed, apply a manifest, and wait until its machines run."""
    from polyvisor.cli.run import run as act

    act(_context(ctx), [*(files or []), *(filename or [])], namespace, console=console, timeout=timeout)


def _vm_action(
    ctx: typer.Context,
    namespace: str,
    name: str,
    action: str,
    body: dict[str, Any],
    dry_run: bool,
    wait: bool,
    timeout: float,
) -> None:
    from polyvisor.cli.lifecycle import vm_action

    session = _context(ctx).connect()
    if dry_run:
        body = {**body, "dryRun": ["All"]}
    vm_action(session, namespace or session.namespace, name, action, body, wait, timeout)


def _context(ctx: typer.Context) -> Context:
    found = ctx.obj
    assert isinstance(found, Context)
    return found
