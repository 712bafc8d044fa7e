"""Questions about a machine's volumes that several layers ask."""

from __future__ import annotations

from collections.abc import Collection

from polyvisor.api.base import Obj
from polyvisor.api.reading import devices_of, nested


def claim_of(volume: Obj) -> str:
    """Return the name of the claim behind a volume, empty if there is none; a DataVolume's claim has its name."""
    ephemeral = nested(volume, "ephemeral").get("persistentVolumeClaim") or {}
    claim = volume.get("persistentVolumeClaim") or ephemeral
    return str(claim.get("claimName") or nested(volume, "dataVolume").get("name") or "")


def claims_of(spec: Obj) -> list[str]:
    """Return the names of the claims behind an instance's volumes, in their order."""
    volumes = (volume for volume in spec.get("volumes") or [] if isinstance(volume, dict))
    return [claim for volume in volumes if (claim := claim_of(volume))]


def access_secrets(spec: Obj) -> list[str]:
    """Return the names of the Secrets that a machine's access credentials are in."""
    found: dict[str, None] = {}
    for entry in spec.get("accessCredentials") or []:
        for kind in ("sshPublicKey", "userPassword"):
            source = (entry.get(kind) or {}).get("source") or {}
            if name := nested(source, "secret").get("secretName"):
                found[str(name)] = None
    return list(found)


def hotpluggable(volume: Obj) -> bool:
    """Whether a volume may come and go while its machine runs."""
    source = volume.get("persistentVolumeClaim") or volume.get("dataVolume") or {}
    return isinstance(source, dict) and source.get("hotpluggable") is True


def passing(volume: Obj) -> bool:
    """Whether a volume is no lasting part of its machine, so that its coming and going needs no restart."""
    return hotpluggable(volume) or "memoryDump" in volume


def service_account(spec: Obj) -> str:
    """Return the name of the service account whose token a machine's guest is given, empty if it is given none."""
    sources = (volume.get("serviceAccount") or {} for volume in spec.get("volumes") or [])
    return next((str(name) for source in sources if (name := source.get("serviceAccountName"))), "")


def drives(spec: Obj) -> set[str]:
    """Return the names of an instance's CD-ROM drives."""
    disks = devices_of(spec).get("disks") or []
    return {disk["name"] for disk in disks if disk.get("cdrom") is not None}


def shared(spec: Obj) -> set[str]:
    """Return the names of the volumes that a guest mounts as folders (``filesystems``)."""
    filesystems = devices_of(spec).get("filesystems") or []
    return {str(one["name"]) for one in filesystems}


def plugged(spec: Obj) -> list[Obj]:
    """Return an instance's volumes that come and go with their disks, as the discs of drives do not."""
    stay = drives(spec)
    return [one for one in spec.get("volumes") or [] if hotpluggable(one) and one["name"] not in stay]


def without(vmi: Obj, gone: Collection[str]) -> Obj:
    """Return a machine without the volumes named, and without their disks; a drive stays, and is empty."""
    if not gone:
        return vmi
    spec, stay = vmi["spec"], drives(vmi["spec"])
    devices = spec["domain"].get("devices") or {}
    disks = [disk for disk in devices.get("disks") or [] if disk["name"] not in gone or disk["name"] in stay]
    volumes = [volume for volume in spec["volumes"] if volume["name"] not in gone]
    domain = {**spec["domain"], "devices": {**devices, "disks": disks}}
    return {**vmi, "spec": {**spec, "volumes": volumes, "domain": domain}}
