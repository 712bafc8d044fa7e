"""The command line as a whole: global options, and what becomes of a failure.

Nothing leaves here as a traceback: known failures are sentences with an exit code, and the last resort for an unknown
one says how to get the traceback (``POLYVISOR_DEBUG=1``). A command's module is loaded when that command is called:
making sixty commands of typer's takes longer than most of them run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from polyvisor import __version__
from polyvisor.cli.context import Context
from polyvisor.cli.errors import CliError, ExitCode, explain
from polyvisor.cli.output import note, say
from polyvisor.kube.errors import ApiError
from polyvisor.standalone.state import StateFolder

ANYWHERE = ("--kubeconfig", "--context", "--state-dir")
"""Global options that may also stand after the command, as kubectl allows."""

SWITCHES = frozenset(
    "--client --create-claim --create-secret --dry-run --force --ga-manage-ssh --infer-instancetype --infer-preference"
    " --move-cursor --namespaced --no-launch --paused --port-forward --preserve --preserve-session --proxy-only"
    " --recursive --stdio --update-secret".split()
)
"""Options of virtctl that are on or off."""

MODULES = {
    "commands_host": "up down status drivers doctor kubeconfig version completion",
    "commands_objects": "get describe apply delete",
    "commands_create": "create",
    "commands_machines": "start stop restart pause unpause console logs run",
    "commands_migrations": "migrate migrate-cancel evacuate-cancel",
    "commands_guests": "soft-reboot reset guestosinfo fslist userlist vnc usbredir port-forward ssh scp expose"
    " permitted-devices",
    "commands_volumes": "addvolume removevolume memory-dump image-upload",
    "commands_credentials": "credentials",
    "commands_import": "import",
    "commands_choice": "explain features expand",
    "commands_endpoints": "endpoint domains",
    "commands_adoption": "adopt unmanage move",
    "commands_cluster": "install uninstall",
    "commands_refused": "adm guestfs objectgraph template vmexport",
}
"""Where each command stands, in the order of the help."""


def app_for(word: str = "") -> typer.Typer:
    """Return the command line with the one command ``word``; with all of them if that is none."""
    found = typer.Typer(
        name="polyvisor",
        help="Virtual machines through libvirt, by KubeVirt's API.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused as invalid, 4 not found, 5 exists or conflicts, "
        "6 timed out, 7 not running or unreachable, 8 not permitted.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    found.callback()(_globals)
    for module in [name for name, words in MODULES.items() if word in words.split()] or MODULES:
        import_module(f"polyvisor.cli.{module}").register(found)
    if word:
        found.registered_commands = [one for one in found.registered_commands if _name(one) == word] or (
            found.registered_commands
        )
    return found


def _name(command: typer.models.CommandInfo) -> str:
    return command.name or str(getattr(command.callback, "__name__", "")).replace("_", "-")


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"polyvisor {__version__}")
        raise typer.Exit


def _globals(
    ctx: typer.Context,
    kubeconfig: Annotated[str, typer.Option(help="Cluster to work on; by default $KUBECONFIG, else standalone.")] = "",
    context: Annotated[str, typer.Option(help="Context of the kubeconfig.")] = "",
    state_dir: Annotated[str, typer.Option(help="State folder; by default $POLYVISOR_STATE_DIR.")] = "",
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    state = StateFolder(Path(state_dir).absolute()) if state_dir else StateFolder.default()
    ctx.obj = Context(kubeconfig, context, state)


def run(arguments: Sequence[str], *, plugin: bool = False) -> int:
    """Run one command and return its exit code; ``plugin``: as a plug-in of kubectl, on kubectl's own cluster."""
    if plugin:
        os.environ.setdefault("KUBECONFIG", str(Path.home() / ".kube" / "config"))
    words = _hoist(_plain(list(arguments)))
    try:
        app_for(_command(words))(args=words, prog_name="kubectl virt" if plugin else "polyvisor")
    except SystemExit as end:
        _flush()
        return end.code if isinstance(end.code, int) else ExitCode.ERROR
    except CliError as error:
        return _fail(error)
    except ApiError as error:
        return _fail(explain(error))
    except KeyboardInterrupt:
        note("")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough (`| head`, `| grep -q`): that is no failure of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as error:
        if os.environ.get("POLYVISOR_DEBUG"):
            raise
        said = str(error).splitlines()[0] if str(error) else ""
        return _fail(
            CliError(
                f"something unforeseen went wrong: {type(error).__name__}: {said}",
                hint="Run the command again with POLYVISOR_DEBUG=1 to see where, and please report it.",
            )
        )
    return ExitCode.OK


def _plain(arguments: list[str]) -> list[str]:
    """Take switches as Go's programs write them too: ``--stdio=true`` is ``--stdio``, ``--stdio=false`` is nothing."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    found = []
    for number, word in enumerate(arguments):
        name, equals, value = word.partition("=")
        if number < end and equals and name in SWITCHES and value in ("true", "false"):
            if value == "true":
                found.append(name)
        else:
            found.append(word)
    return found


def _hoist(arguments: list[str]) -> list[str]:
    front: list[str] = []
    rest: list[str] = []
    while arguments:
        word = arguments.pop(0)
        if word == "--":
            return [*front, *rest, word, *arguments]
        if word in ANYWHERE and arguments:
            front += [word, arguments.pop(0)]
        elif word.startswith(tuple(f"{option}=" for option in ANYWHERE)):
            front.append(word)
        else:
            rest.append(word)
    return front + rest


def _command(words: Sequence[str]) -> str:
    """Return the command among the words that :func:`_hoist` gives; empty if there is none."""
    number = 0
    while number < len(words) and words[number].startswith("-"):
        number += 2 if words[number] in ANYWHERE else 1
    return words[number] if number < len(words) else ""


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(error: CliError) -> int:
    _flush()
    note(f"polyvisor: {error.message}")
    if error.hint:
        note(error.hint)
    return error.code
