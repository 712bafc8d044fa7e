"""Commands of virtctl that are refused in words, since nothing is behind them.

A refused one takes any arguments, says what to do instead, and ends as wrong usage does; the help does not list it.
"""

from __future__ import annotations

from collections.abc import Callable

import typer

from polyvisor.cli.errors import CliError, ExitCode

REFUSED = {
    "adm": "log levels are set where a process is started (docs/cluster.md)",
    "guestfs": "run libguestfs on the claim's disk while the machine is shut down",
    "objectgraph": "`polyvisor describe` names what a machine needs",
    "template": "instance types and preferences, or kubectl's kustomize, make machines from one another",
    "vmexport": "shut the machine down and copy its volume",
}
_ANYTHING = {"allow_extra_args": True, "ignore_unknown_options": True}


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    for name, instead in REFUSED.items():
        app.command(name, hidden=True, context_settings=_ANYTHING)(_refusing(name, instead))


def _refusing(name: str, instead: str) -> Callable[[], None]:
    def refuse() -> None:
        raise CliError(f"virtctl's {name} is not implemented by Polyvisor: {instead}", ExitCode.USAGE)

    refuse.__doc__ = f"Not implemented: {instead}."
    return refuse
