"""``addvolume`` and ``removevolume``: virtctl's words for disks that come and go while a machine runs."""

from __future__ import annotations

from contextlib import suppress

from polyvisor.cli.client import Obj
from polyvisor.cli.context import Session
from polyvisor.cli.errors import CliError, ExitCode
from polyvisor.cli.lifecycle import subresource
from polyvisor.cli.output import say
from polyvisor.kube.errors import ApiError

CLAIMS = "/api/v1/namespaces/{}/persistentvolumeclaims/{}"
DATAVOLUMES = "/apis/cdi.kubevirt.io/v1beta1/namespaces/{}/datavolumes/{}"
INSTANCE, MACHINE = "virtualmachineinstances", "virtualmachines"


def add(
    session: Session, namespace: str, machine: str, volume: str, disk: Obj, *, persist: bool, dry_run: bool
) -> None:
    """Attach a DataVolume or a claim of the volume's name."""
    name = disk.get("name") or volume
    body: Obj = {"name": name, "disk": {**disk, "name": name}, "volumeSource": _source(session, namespace, volume)}
    _put(session, namespace, machine, "addvolume", body, persist, dry_run)
    say(f"Successfully submitted add volume request to VM {machine} for volume {volume}")


def remove(session: Session, namespace: str, machine: str, volume: str, *, persist: bool, dry_run: bool) -> None:
    """Take a volume out."""
    _put(session, namespace, machine, "removevolume", {"name": volume}, persist, dry_run)
    say(f"Successfully submitted remove volume request to VM {machine} for volume {volume}")


def _put(session: Session, namespace: str, machine: str, action: str, body: Obj, persist: bool, dry_run: bool) -> None:
    if dry_run:
        body["dryRun"] = ["All"]
    session.client.request("PUT", subresource(namespace, MACHINE if persist else INSTANCE, machine, action), body)


def _source(session: Session, namespace: str, volume: str) -> Obj:
    with suppress(ApiError):
        session.client.get(DATAVOLUMES.format(namespace, volume))
        return {"dataVolume": {"name": volume, "hotpluggable": True}}
    try:
        session.client.get(CLAIMS.format(namespace, volume))
    except ApiError as error:
        if not error.not_found:
            raise
        message = f"volume {volume}: there is no DataVolume and no PersistentVolumeClaim of that name in {namespace}"
        raise CliError(message, code=ExitCode.NOT_FOUND) from None
    return {"persistentVolumeClaim": {"claimName": volume, "hotpluggable": True}}
