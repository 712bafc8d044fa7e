"""The commands on this machine's installation: up, down, status, drivers, doctor, kubeconfig, version, completion."""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum
from typing import Annotated

import typer

from polyvisor.cli.context import Context
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.options import Format
from polyvisor.cli.output import Output, print_structured, say

StartTimeout = Annotated[
    float | None,
    typer.Option("--timeout", help="Give up waiting after so many seconds; by default when nothing happens any more."),
]


StopTimeout = Annotated[
    float | None,
    typer.Option("--timeout", help="Give up waiting after so many seconds; by default 120, longer where slow."),
]


class Network(StrEnum):
    """How machines are networked."""

    USER = "user"
    BRIDGE = "bridge"


SERVER_VERSION = "/apis/subresources.kubevirt.io/v1/version"


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    for command in (up, down, status, drivers, doctor, kubeconfig, version, completion):
        app.command()(command)


def up(
    ctx: typer.Context,
    foreground: Annotated[bool, typer.Option(help="Stay in the foreground and log to standard error.")] = False,
    port: Annotated[int, typer.Option(help="Port of the API server; by default the last one, or a free one.")] = 0,
    network: Annotated[
        Network | None,
        typer.Option(
            help="How machines are networked: 'user', without rights and without a change to this host, or 'bridge' "
            "(root), with addresses of their own behind this host. By default as before; at first 'user'."
        ),
    ] = None,
    timeout: StartTimeout = None,
) -> None:
    """Start Polyvisor on this machine. Does nothing if it runs already."""
    from polyvisor.cli.host import up as act

    act(_context(ctx), foreground=foreground, port=port, timeout=timeout, network=network.value if network else "")


def down(
    ctx: typer.Context,
    keep_guests: Annotated[bool, typer.Option(help="Leave guests running; the next `up` finds them again.")] = False,
    timeout: StopTimeout = None,
) -> None:
    """Shut all guests down and stop. Objects and disks are kept."""
    from polyvisor.cli.host import down as act

    act(_context(ctx), keep_guests=keep_guests, timeout=timeout)


def status(ctx: typer.Context, output: Format = Output.TABLE) -> None:
    """Say whether Polyvisor runs here, and what it runs."""
    from polyvisor.cli.host import status as act

    act(_context(ctx), output)


def drivers(ctx: typer.Context, output: Format = Output.TABLE) -> None:
    """List the hypervisor drivers: which work on this node, and why the others do not."""
    from polyvisor.cli.drivers import show

    show(_context(ctx).state, output)


def doctor(
    driver: Annotated[
        list[str] | None, typer.Option("--driver", metavar="NAME", help="Look at these drivers only.")
    ] = None,
    output: Format = Output.TABLE,
) -> None:
    """List what this machine lacks for each hypervisor driver, and the command that installs it.

    Exit code 0: no driver that this machine can have lacks what it needs; 1: one does, or one named by --driver.
    """
    from polyvisor.cli.doctor import doctor as act

    act(driver or [], output)


def kubeconfig(ctx: typer.Context) -> None:
    """Print the path of the kubeconfig, for kubectl and KubeVirt's clients."""
    context = _context(ctx)
    path = context.kubeconfig_path()
    say(str(path))
    if not path.exists():
        raise CliError(f"{path} does not exist yet", ExitCode.NOT_RUNNING, "`polyvisor up` writes it.")


def version(
    ctx: typer.Context,
    client: Annotated[bool, typer.Option("-c", "--client", help="This program's alone; no server is asked.")] = False,
    output: Format = Output.TABLE,
) -> None:
    """Print the version, and that of the server if one answers."""
    from polyvisor import __version__
    from polyvisor.kube.errors import ApiError

    found = {"clientVersion": {"gitVersion": f"v{__version__}"}}
    if not client:
        with suppress(CliError, ApiError):
            found["serverVersion"] = _context(ctx).connect().client.get(SERVER_VERSION)
    if output in (Output.JSON, Output.YAML):
        print_structured(found, output)
        return
    say(f"polyvisor {__version__}")
    if server := found.get("serverVersion"):
        say(f"server {str(server['gitVersion']).removeprefix('v')}")


def completion(shell: Annotated[str, typer.Argument(help="bash, zsh or fish")]) -> None:
    """Print a shell's completion script: source <(polyvisor completion bash)."""
    if shell not in ("bash", "zsh", "fish"):
        raise CliError(f"no completion for {shell!r}: bash, zsh or fish", ExitCode.USAGE)
    from typer._completion_shared import get_completion_script

    say(get_completion_script(prog_name="polyvisor", complete_var="_POLYVISOR_COMPLETE", shell=shell))


def _context(ctx: typer.Context) -> Context:
    found = ctx.obj
    assert isinstance(found, Context)
    return found
