"""``memory-dump``: virtctl's words for a dump of a running machine's memory into a claim.

virtctl's ``download`` goes by its exports of volumes, which are not there; the dump is a file in the claim.
"""

from __future__ import annotations

from polyvisor.api.dumps import dump_size
from polyvisor.api.quantity import format_quantity
from polyvisor.api.reading import read_status
from polyvisor.cli.client import Obj
from polyvisor.cli.context import Session
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.lifecycle import subresource
from polyvisor.cli.output import say
from polyvisor.kube.errors import ApiError

ACTIONS = ("get", "download", "remove")
CLAIMS = "/api/v1/namespaces/{}/persistentvolumeclaims"
MACHINES = "/apis/kubevirt.io/v1/namespaces/{}/virtualmachines/{}"
INSTANCES = "/apis/kubevirt.io/v1/namespaces/{}/virtualmachineinstances/{}"
WRITABLE = ("ReadWriteOnce", "ReadWriteMany")
MIB = 1 << 20
NO_DOWNLOAD = (
    "virtctl's download of a memory dump is not implemented by Polyvisor: volumes are not exported. The dump is a file"
    " in the claim; its name is status.memoryDumpRequest.fileName of the machine"
)


def may_do(action: str, *, download: bool) -> None:
    """Refuse what is no action, and downloads, before anything is done."""
    if action not in ACTIONS:
        raise CliError(f"found {action!r}, accepted: {', '.join(ACTIONS)}", ExitCode.USAGE)
    if action == "download" or download:
        raise CliError(NO_DOWNLOAD, ExitCode.USAGE)


def make_claim(session: Session, namespace: str, machine: str, claim: str, storage_class: str, mode: str) -> None:
    """Make a claim that the machine's memory fits into."""
    if not claim:
        raise CliError("missing claim name; give one by --claim-name", ExitCode.USAGE)
    if mode and mode not in WRITABLE:
        raise CliError(f"--access-mode: found {mode!r}, accepted: {', '.join(WRITABLE)}", ExitCode.USAGE)
    vm = session.client.get(MACHINES.format(namespace, machine))
    if read_status(vm).get("memoryDumpRequest"):
        message = "please remove current memory dump association before creating a new claim for a new memory dump"
        raise CliError(message, ExitCode.CONFLICT)
    size = dump_size(session.client.get(INSTANCES.format(namespace, machine)))
    spec: Obj = {
        "accessModes": [mode or WRITABLE[0]],
        "resources": {"requests": {"storage": format_quantity(-(-size // MIB) * MIB)}},
    }
    if storage_class:
        spec["storageClassName"] = storage_class
    body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": claim}, "spec": spec}
    try:
        session.client.request("POST", CLAIMS.format(namespace), body)
    except ApiError as error:
        if not error.already_exists:
            raise
        message = f"PVC {namespace}/{claim} already exists, check if it should be created if not remove create flag"
        raise CliError(message, ExitCode.CONFLICT) from None
    say(f"PVC {namespace}/{claim} created")


def get(session: Session, namespace: str, machine: str, claim: str) -> None:
    """Ask for a dump, into the claim of the one before if none is named."""
    body = {"claimName": claim} if claim else {}
    session.client.request("PUT", subresource(namespace, "virtualmachines", machine, "memorydump"), body)
    say(f"Successfully submitted memory dump request of VM {machine}")


def remove(session: Session, namespace: str, machine: str) -> None:
    """Give the claim up; the dump in it stays."""
    session.client.request("PUT", subresource(namespace, "virtualmachines", machine, "removememorydump"), {})
    say(f"Successfully submitted remove memory dump association of VM {machine}")
