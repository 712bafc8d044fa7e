"""``logs``: what the guest has written to its serial console, read like a container's log through its launcher Pod."""

from __future__ import annotations

import sys

from polyvisor.cli.client import Obj, Query
from polyvisor.cli.context import Session
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.kube.errors import ApiError

CONSOLE = "guest-console-log"
LAUNCHER = "compute"


def logs(session: Session, namespace: str, name: str, *, follow: bool, tail: int, launcher: bool) -> None:
    """Print the console log of a machine (or its launcher's own log)."""
    pod = find_pod(session, namespace, name)
    path = f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}/log"
    query: Query = {
        "container": LAUNCHER if launcher else CONSOLE,
        "follow": follow,
        "tailLines": tail if tail >= 0 else None,
    }
    with session.client.stream(path, query) as response:
        while chunk := response.read1(65536):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()


def find_pod(session: Session, namespace: str, name: str) -> Obj:
    """Return the newest launcher Pod of a machine, found by its owner reference."""
    machines = f"/apis/kubevirt.io/v1/namespaces/{namespace}"
    try:
        vmi = session.client.get(f"{machines}/virtualmachineinstances/{name}")
    except ApiError as error:
        if not error.not_found:
            raise
        raise _not_running(session.client.get(f"{machines}/virtualmachines/{name}")) from error
    pods = session.client.get(f"/api/v1/namespaces/{namespace}/pods").get("items") or []
    uid = vmi["metadata"]["uid"]
    owned = [p for p in pods if any(o.get("uid") == uid for o in p["metadata"].get("ownerReferences") or [])]
    if not owned:
        phase = (vmi.get("status") or {}).get("phase", "Pending")
        raise CliError(
            f"machine {name!r} has no launcher yet (phase {phase})",
            ExitCode.NOT_FOUND,
            f"`polyvisor describe vmi {name}` says what it waits for.",
        )
    return max(owned, key=lambda p: p["metadata"].get("creationTimestamp", ""))


def _not_running(vm: Obj) -> CliError:
    """Say why a virtual machine has no instance whose log could be read, and how its last one ended."""
    name, status = vm["metadata"]["name"], vm.get("status") or {}
    failure: Obj = next((c for c in status.get("conditions") or [] if c.get("type") == "Failure"), {})
    why = f": {failure['message']}" if failure.get("message") else ""
    return CliError(
        f"virtual machine {name!r} is not running ({status.get('printableStatus', 'Stopped')}){why}",
        ExitCode.NOT_FOUND,
        f"`polyvisor describe vm {name}` shows its Events, `polyvisor start {name}` starts it.",
    )
