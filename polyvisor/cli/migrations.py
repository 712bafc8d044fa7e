"""``migrate``, ``migrate-cancel`` and ``evacuate-cancel``, as virtctl has them."""

from __future__ import annotations

from collections.abc import Sequence

from polyvisor.api.migrations import is_over
from polyvisor.api.names import MIGRATION_SELECTOR_LABEL
from polyvisor.cli.client import Obj
from polyvisor.cli.context import Session
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.lifecycle import machine_name, machine_words, subresource
from polyvisor.cli.output import say


def migrate(session: Session, namespace: str, name: str, selector: Sequence[str], *, dry_run: bool) -> None:
    """Ask for the migration of a VM."""
    name = machine_name(name)
    body: Obj = {"dryRun": ["All"]} if dry_run else {}
    if labels := _labels(selector):
        body["addedNodeSelector"] = labels
    session.client.request("PUT", subresource(namespace, "virtualmachines", name, "migrate"), body)
    say(f"VM {name} was scheduled to migrate")


def cancel(session: Session, namespace: str, name: str, *, dry_run: bool) -> None:
    """Delete the migration of a VM that has not ended."""
    name = machine_name(name)
    path = f"/apis/kubevirt.io/v1/namespaces/{namespace}/virtualmachineinstancemigrations"
    listed = session.client.get(f"{path}?labelSelector={MIGRATION_SELECTOR_LABEL}%3D{name}")
    active = [one for one in listed.get("items") or [] if not is_over(one)]
    if not active:
        raise CliError(f"Found no migration to cancel for {name}", ExitCode.NOT_FOUND)
    for one in active:
        body: Obj = {"dryRun": ["All"]} if dry_run else {}
        session.client.request("DELETE", f"{path}/{one['metadata']['name']}", body)
    say(f"VM {name} was scheduled to migrate-cancel")


def stay(session: Session, namespace: str, words: list[str], *, dry_run: bool) -> None:
    """Take back that a machine is to leave its node."""
    plural, name = machine_words(words, "evacuate-cancel")
    body: Obj = {"dryRun": ["All"]} if dry_run else {}
    session.client.request("PUT", subresource(namespace, plural, name, "evacuate/cancel"), body)
    say(f"{'VM' if plural == 'virtualmachines' else 'VMI'} {name} was scheduled to evacuate-cancel")


def _labels(given: Sequence[str]) -> dict[str, str]:
    found = {}
    for word in (part for text in given for part in text.split(",")):
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise CliError(f"--addedNodeSelector: {word!r} is not LABEL=VALUE", ExitCode.USAGE)
        found[key] = value
    return found
