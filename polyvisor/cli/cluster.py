"""``install`` and ``uninstall``: what the user asked for, handed to :mod:`polyvisor.installation`, and its failures."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import yaml

from polyvisor.cli.client import Obj
from polyvisor.cli.context import Context
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.output import note, say
from polyvisor.installation import apply, remove
from polyvisor.installation.render import ValuesError, assignment, manifests, to_yaml
from polyvisor.kube.client import KubeClient


def install(
    context: Context,
    namespace: str,
    files: Sequence[Path],
    assignments: Sequence[str],
    *,
    dry_run: bool,
    wait: bool,
    timeout: float,
) -> None:
    """Render, and apply unless that is only to be shown."""
    try:
        objects = manifests(namespace, [*map(_values, files), *map(assignment, assignments)])
    except ValuesError as error:
        raise CliError(str(error), ExitCode.USAGE, "`values.yaml` of the chart lists all values.") from error
    if dry_run:
        sys.stdout.write(to_yaml(objects))
        return
    _on_cluster(context, lambda client: apply.install(client, objects, _done, seconds=timeout, wait=wait))
    say(f"Polyvisor is installed in namespace {namespace}.")


def uninstall(context: Context, namespace: str, *, delete_machines: bool, timeout: float) -> None:
    """Remove everything."""
    objects = manifests(namespace, [{"monitoring": {"enabled": True}}])  # also what may have been asked for
    _on_cluster(
        context,
        lambda client: remove.uninstall(
            client, objects, namespace, _done, seconds=timeout, delete_machines=delete_machines
        ),
    )
    say("Polyvisor is uninstalled.")
    note(
        "left on each node: /var/lib/polyvisor (caches, and host disks and claims' data if they were put there); "
        "remove it by hand if you no longer need it"
    )


def _done(text: str) -> None:
    note(f"ok  {text}")


def _values(path: Path) -> Obj:
    try:
        found = yaml.safe_load(path.read_text())
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}", ExitCode.USAGE) from error
    except yaml.YAMLError as error:
        raise CliError(f"{path}: is not YAML: {error}", ExitCode.USAGE) from error
    if not isinstance(found, dict):
        raise CliError(f"{path}: a map of values is wanted", ExitCode.USAGE)
    return found


def _on_cluster(context: Context, act: Callable[[KubeClient], Awaitable[None]]) -> None:
    connection = context.connect().client.connection

    async def work() -> None:
        async with KubeClient(connection, field_manager=apply.FIELD_MANAGER) as client:
            await act(client)

    try:
        asyncio.run(work())
    except apply.InstallError as error:
        raise CliError(str(error), ExitCode.ERROR, error.hint) from error
