"""The options that several commands share, so that they are spelt and explained once."""

from __future__ import annotations

from typing import Annotated

import typer

from polyvisor.cli.output import Output

Namespace = Annotated[str, typer.Option("-n", "--namespace", help="Namespace; by default the kubeconfig's.")]
AllNamespaces = Annotated[bool, typer.Option("-A", "--all-namespaces", help="All namespaces.")]
Selector = Annotated[str, typer.Option("-l", "--selector", help="Label selector: key=value,key!=value,key in (a,b).")]
Format = Annotated[Output, typer.Option("-o", "--output", help="Format of the output.")]
Files = Annotated[list[str], typer.Option("-f", "--filename", help="File, folder, or - for standard input.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Ask the server what it would do, change nothing.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is done.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Give up waiting after so many seconds.")]
Words = Annotated[list[str], typer.Argument(help="TYPE, TYPE NAME..., or TYPE/NAME...")]


def names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer names of machines to a shell; what that takes is imported when the key is pressed."""
    from polyvisor.cli.completing import machines

    return machines(ctx, incomplete)


Machine = Annotated[str, typer.Argument(help="Name of the machine.", autocompletion=names)]
MachineWords = Annotated[list[str], typer.Argument(metavar="[vm|vmi] NAME", autocompletion=names)]
