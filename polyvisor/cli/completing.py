"""What a shell offers for a word that is half typed: names of machines, asked of the server, or nothing.

Whoever presses the key waits for it, so the server has little time, and whatever is wrong shows as no offer.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import typer

from polyvisor.cli.context import Context
from polyvisor.cli.errors import CliError
from polyvisor.kube.errors import ApiError
from polyvisor.standalone.state import StateFolder

SECONDS = 3.0
KINDS = ("virtualmachines", "virtualmachineinstances")


def machines(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the machines of the namespace whose names begin so; with their type before them if that was typed."""
    given, slash, start = incomplete.rpartition("/")
    options = ctx.find_root().params
    state = StateFolder(Path(options["state_dir"]).absolute()) if options.get("state_dir") else StateFolder.default()
    found: set[str] = set()
    with suppress(CliError, ApiError):
        session = Context(options.get("kubeconfig") or "", options.get("context") or "", state).connect()
        session.client.timeout = SECONDS
        namespace = ctx.params.get("namespace") or session.namespace
        for plural in KINDS:
            listed = session.client.get(f"/apis/kubevirt.io/v1/namespaces/{namespace}/{plural}")
            found |= {str(item["metadata"]["name"]) for item in listed.get("items") or []}
    return [f"{given}{slash}{name}" for name in sorted(found) if name.startswith(start)]
