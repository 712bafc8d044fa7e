"""``logs``: what the guest has written to its serial console, read like a container's log through its launcher Pod.

A virtual machine that is not running has no Pod; a standalone installation keeps the log of its last instance.
"""

from __future__ import annotations

import sys

from polyvisor.api.reading import read_status
from polyvisor.api.resources import SUBRESOURCES_GROUP, SUBRESOURCES_VERSIONS
from polyvisor.cli.client import Obj, Query
from polyvisor.cli.context import Session
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.kube.errors import ApiError

CONSOLE = "guest-console-log"
LAUNCHER = "compute"


def logs(session: Session, namespace: str, name: str, *, follow: bool, tail: int, launcher: bool) -> None:
    """Print the console log of a machine (or its launcher's own log); of its last instance if none is there."""
    query: Query = {
        "container": LAUNCHER if launcher else CONSOLE,
        "follow": follow,
        "tailLines": tail if tail >= 0 else None,
    }
    try:
        vmi, pod = find_pod(session, namespace, name)
        written = _print(session, f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}/log", query)
    except ApiError as error:
        if not error.not_found:
            raise
        _last_log(session, namespace, name, query)
        return
    if not written:
        phase = read_status(vmi).get("phase", "Pending")
        sys.stderr.write(f"machine {name!r} has written nothing yet (phase {phase})\n")


def find_pod(session: Session, namespace: str, name: str) -> tuple[Obj, Obj]:
    """Return a machine and its newest launcher Pod, found by its owner reference.

    Raises :class:`ApiError` if there is no such machine, :class:`CliError` if it has no Pod yet.
    """
    vmi = session.client.get(f"/apis/kubevirt.io/v1/namespaces/{namespace}/virtualmachineinstances/{name}")
    pods = session.client.get(f"/api/v1/namespaces/{namespace}/pods").get("items") or []
    uid = vmi["metadata"]["uid"]
    owned = [p for p in pods if any(o.get("uid") == uid for o in p["metadata"].get("ownerReferences") or [])]
    if not owned:
        phase = read_status(vmi).get("phase", "Pending")
        raise CliError(
            f"machine {name!r} has no launcher yet (phase {phase})",
            ExitCode.NOT_FOUND,
            f"`polyvisor describe vmi {name}` says what it waits for.",
        )
    return vmi, max(owned, key=lambda p: p["metadata"].get("creationTimestamp", ""))


def _last_log(session: Session, namespace: str, name: str, query: Query) -> None:
    """Print what the last instance of a virtual machine wrote, and say that it is over."""
    vm = session.client.get(f"/apis/kubevirt.io/v1/namespaces/{namespace}/virtualmachines/{name}")
    base = f"/apis/{SUBRESOURCES_GROUP}/{SUBRESOURCES_VERSIONS[0]}/namespaces/{namespace}"
    over = _not_running(vm)
    try:
        written = _print(session, f"{base}/virtualmachines/{name}/log", {**query, "follow": False})
    except ApiError as error:
        if not error.not_found:
            raise
        raise over from None
    if not written:
        raise over
    sys.stderr.write(f"{over.message}; this is the log of its last instance\n")


def _print(session: Session, path: str, query: Query) -> bool:
    """Print what a path answers, as it comes; return whether that was anything."""
    written = False
    with session.client.stream(path, query) as response:
        while chunk := response.read1(65536):
            written = True
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
    return written


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
