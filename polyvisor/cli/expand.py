"""``expand``: a machine with its instance type and preference written out, as the API server sees it."""

from __future__ import annotations

from collections.abc import Sequence

from polyvisor.cli.context import Session
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.lifecycle import GROUP, subresource
from polyvisor.cli.manifests import load
from polyvisor.cli.output import Output, print_structured


def expand(session: Session, namespace: str, vm: str, files: Sequence[str], output: Output) -> None:
    """Print a machine of the cluster, or those of a manifest, written out."""
    if bool(vm) == bool(files):
        raise CliError("expand which machine?", ExitCode.USAGE, "Give --vm NAME, or -f FILE.")
    if vm:
        found = [session.client.get(subresource(namespace, "virtualmachines", vm, "expand-spec"))]
    else:
        machines = [one.obj for one in load(files) if one.obj.get("kind") == "VirtualMachine"]
        if not machines:
            raise CliError(f"no VirtualMachine in {', '.join(files)}", ExitCode.INVALID)
        found = []
        for machine in machines:
            where = machine["metadata"].get("namespace") or namespace
            path = f"{GROUP}/namespaces/{where}/expand-vm-spec"
            found.append(session.client.request("PUT", path, machine))
    shown = found[0] if len(found) == 1 else {"apiVersion": "v1", "kind": "List", "items": found}
    print_structured(shown, Output.JSON if output == Output.JSON else Output.YAML)
