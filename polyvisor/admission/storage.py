"""Rules for disks, the volumes behind them, and cloud-init seeds."""

from __future__ import annotations

import base64
import binascii
import re

from polyvisor.admission import contents
from polyvisor.admission.paths import absolute_path_error, image_error
from polyvisor.admission.values import Findings, amount, items, listed, mapping, number, text
from polyvisor.api import Obj
from polyvisor.api.implemented import IMPLEMENTED
from polyvisor.api.metadata import dns_label_error, dns_subdomain_error

MAX_DISKS = 256
MAX_SEED = 2048
"""Bytes of cloud-init data inside a manifest, as KubeVirt limits them; more goes into a Secret."""
MIN_CAPACITY = 512
TARGETS = ("disk", "cdrom", "lun")
SEEDS = ("cloudInitNoCloud", "cloudInitConfigDrive")
BACKING = (
    ("hostDisk", "path", "file"),
    ("persistentVolumeClaim", "claimName", "claim"),
    ("dataVolume", "name", "claim"),
    ("memoryDump", "claimName", "claim"),
)
"""What two volumes of a machine may not both write to: kind of volume, its field, what that names."""
SHAREABLE = ("persistentVolumeClaim", "dataVolume", "hostDisk")
SHARED = ("persistentVolumeClaim", "dataVolume", "configMap", "secret", "serviceAccount", "downwardAPI")
LUNS = ("persistentVolumeClaim", "dataVolume")
METRICS = "downwardMetrics"
"""Kinds of volumes that several machines can have, those that a guest can mount as a folder, and those that can be a
SCSI device of the host."""
SOURCES = tuple(sorted(IMPLEMENTED["Volume"] - {"name"}))
_SERIAL = re.compile(r"[A-Za-z0-9_.+-]{1,256}")
_CLAIM = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_SEED_FIELDS = (
    ("userData", "userDataBase64", "secretRef"),
    ("networkData", "networkDataBase64", "networkDataSecretRef"),
)


def validate(spec: Obj, path: str, found: Findings) -> None:
    """Check ``disks`` and ``volumes`` of an instance's spec, and that they belong together."""
    devices = mapping(spec, "domain", "devices")
    disks_path = f"{path}.domain.devices.disks"
    volumes = _named(spec.get("volumes"), f"{path}.volumes", found)
    disks = _named(devices.get("disks"), disks_path, found)
    if len(disks) > MAX_DISKS:
        found.add(disks_path, f"has {len(disks)} disks; at most {MAX_DISKS} are accepted")
    for name, (where, disk) in disks.items():
        if name not in volumes and disk.get("cdrom") is not None:
            pass  # a drive without a disc
        elif name not in volumes:
            names = listed(volumes)
            found.add(f"{where}.name", f"no volume has the name {name!r}; volumes: {names}")
        elif mapping(volumes[name][1], "memoryDump"):
            found.add(f"{where}.name", f"the volume {name!r} takes a memory dump, and no disk shows it to the guest")
        else:
            _backed(disk, volumes[name][1], where, found)
        _disk(disk, where, found)
    _filesystems(devices, volumes, disks, f"{path}.domain.devices.filesystems", found)
    seeds = [(where, kind) for where, volume in volumes.values() for kind in SEEDS if kind in volume]
    for where, kind in seeds[1:]:
        found.duplicate(f"{where}.{kind}", f"a machine has one cloud-init volume; the first is {seeds[0][0]}")
    accounts = [where for where, volume in volumes.values() if "serviceAccount" in volume]
    for where in accounts[1:]:
        found.duplicate(f"{where}.serviceAccount", f"a machine has one service account; the first is {accounts[0]}")
    told = [where for where, volume in volumes.values() if volume.get(METRICS) is not None]
    for where in told[1:]:
        found.duplicate(f"{where}.{METRICS}", f"a machine has one volume of metrics; the first is {told[0]}")
    dumps = [where for where, volume in volumes.values() if "memoryDump" in volume]
    for where in dumps[1:]:
        found.duplicate(f"{where}.memoryDump", f"a machine has one memory dump at a time; the first is {dumps[0]}")
    backing: dict[tuple[str, str], str] = {}
    for where, volume in volumes.values():
        _volume(volume, where, found)
        for kind, key, what in BACKING:
            name = text(mapping(volume, kind).get(key))
            if name and backing.setdefault((what, name), where) != where:
                found.duplicate(f"{where}.{kind}.{key}", f"{name!r} is the volume {backing[what, name]} already")


def _filesystems(
    devices: Obj, volumes: dict[str, tuple[str, Obj]], disks: dict[str, tuple[str, Obj]], path: str, found: Findings
) -> None:
    """Check the folders that are shared with the guest."""
    for name, (where, _) in _named(devices.get("filesystems"), path, found).items():
        volume = volumes.get(name, ("", {}))[1]
        kind = next((key for key in volume if key != "name" and volume[key] is not None), "")
        if name not in volumes:
            names = listed(volumes)
            found.add(f"{where}.name", f"no volume has the name {name!r}; volumes: {names}")
        elif name in disks:
            found.add(
                f"{where}.name", f"the volume {name!r} is the disk {disks[name][0]} already; it is one or the other"
            )
        elif kind in SOURCES and kind not in SHARED:
            found.add(f"{where}.name", f"a {kind} is no folder that a guest can mount; accepted: {', '.join(SHARED)}")
        elif mapping(volume, kind).get("hotpluggable") is True:
            found.add(f"{where}.name", f"the volume {name!r} is hotpluggable, which is for disks; leave that out")


def _named(value: object, path: str, found: Findings) -> dict[str, tuple[str, Obj]]:
    by_name: dict[str, tuple[str, Obj]] = {}
    for where, item in items(value, path):
        name = text(item.get("name"))
        if not name:
            if item.get("name") == "":
                found.required(f"{where}.name", "required")
        elif error := dns_label_error(name):
            found.add(f"{where}.name", error)
        elif name in by_name:
            found.duplicate(f"{where}.name", f"{name!r} is the name of {by_name[name][0]} already")
        if name:
            by_name.setdefault(name, (where, item))
    return by_name


def _backed(disk: Obj, volume: Obj, path: str, found: Findings) -> None:
    """Check what a disk asks of the volume behind it."""
    kind = next((key for key in volume if key != "name" and volume[key] is not None), "")
    if disk.get("shareable") is True and kind in SOURCES and kind not in SHAREABLE:
        found.add(f"{path}.shareable", f"a {kind} is one machine's own; accepted: {', '.join(SHAREABLE)}")
    if kind == METRICS and (disk.get("lun") is not None or disk.get("cdrom") is not None):
        found.add(path, "metrics of the host are on a disk; give disk in place of lun and cdrom")
    elif kind == METRICS and (bus := text(mapping(disk, "disk").get("bus"))) not in ("", "virtio"):
        message = f"metrics of the host are on a disk with bus virtio, found {bus[:40]!r}"
        found.add(f"{path}.disk.bus", message, "FieldValueNotSupported")
    if disk.get("lun") is not None and kind in SOURCES and kind not in LUNS:
        found.add(f"{path}.lun", f"a {kind} is no SCSI device; accepted: {', '.join(LUNS)} with volumeMode Block")


def _disk(disk: Obj, path: str, found: Findings) -> None:
    targets = [target for target in TARGETS if disk.get(target) is not None]
    if len(targets) > 1:
        found.add(path, f"{' and '.join(targets)} exclude each other; give one of {', '.join(TARGETS)}")
    if mapping(disk, "cdrom").get("bus") == "virtio":
        message = "a CD-ROM cannot be on the virtio bus; accepted: sata, scsi, usb"
        found.add(f"{path}.cdrom.bus", message, "FieldValueNotSupported")
    if mapping(disk, "lun").get("bus") not in (None, "", "scsi"):
        message = f"found {text(disk['lun']['bus'])!r}; a SCSI device is passed through on the bus scsi"
        found.add(f"{path}.lun.bus", message, "FieldValueNotSupported")
    if disk.get("lun") is not None and disk.get("serial"):
        found.add(f"{path}.serial", "a SCSI device that is passed through has a serial number of its own")
    if disk.get("shareable") is True and disk.get("cache") not in (None, "", "none"):
        found.add(f"{path}.cache", f"a disk that is shared has cache: none, found {text(disk['cache'])!r}")
    if mapping(disk, "cdrom").get("readonly") is False:
        found.add(f"{path}.cdrom.readonly", "a CD-ROM is always read-only; leave it out or write true")
    order = number(disk.get("bootOrder"))
    if order is not None and order < 1:
        found.add(f"{path}.bootOrder", f"found {order}; boot order starts at 1")
    serial = text(disk.get("serial"))
    if serial and not _SERIAL.fullmatch(serial):
        found.add(f"{path}.serial", "letters, digits and '_.+-' are accepted, at most 256")
    if disk.get("io") == "native" and disk.get("cache") not in (None, "", "none"):
        found.add(f"{path}.io", f"native needs cache: none, found cache: {disk['cache']}")


def _volume(volume: Obj, path: str, found: Findings) -> None:
    given = [key for key in volume if key != "name" and volume[key] is not None]
    known = [key for key in given if key in SOURCES]
    if not given:
        found.required(path, f"a source is wanted, one of {', '.join(SOURCES)}")
    elif len(given) > 1:
        found.add(path, f"{' and '.join(sorted(map(str, given))[:5])} exclude each other; give one source")
    for key in known:
        source, where = mapping(volume, key), f"{path}.{key}"
        match key:
            case "containerDisk":
                if isinstance(source.get("image"), str) and (error := image_error(source["image"])):
                    found.add(f"{where}.image", error)
                if text(source.get("path")) and (error := absolute_path_error(source["path"])):
                    found.add(f"{where}.path", error)
                _name(source, "imagePullSecret", where, found)
            case "emptyDisk":
                _capacity(source, where, found)
            case "hostDisk":
                if isinstance(source.get("path"), str) and (error := absolute_path_error(source["path"])):
                    found.add(f"{where}.path", error)
                if source.get("type") == "DiskOrCreate" and source.get("capacity") is None:
                    found.required(f"{where}.capacity", "required for type DiskOrCreate: the size of a new disk")
                _capacity(source, where, found)
            case "persistentVolumeClaim" | "memoryDump":
                claim = source.get("claimName")  # as with KubeVirt, one that cannot exist is waited for
                if isinstance(claim, str) and not _CLAIM.fullmatch(claim):
                    found.add(f"{where}.claimName", f"{claim[:80]!r} is not a valid name of a claim")
            case "serviceAccount":
                if not source.get("serviceAccountName"):
                    found.required(f"{where}.serviceAccountName", "required; the name of a ServiceAccount")
                _name(source, "serviceAccountName", where, found)
            case "dataVolume":
                _name(source, "name", where, found)
            case "ephemeral":
                if not isinstance(source.get("persistentVolumeClaim"), dict):
                    found.required(f"{where}.persistentVolumeClaim", "required; the claim to put a layer above")
                _name(mapping(source, "persistentVolumeClaim"), "claimName", f"{where}.persistentVolumeClaim", found)
            case "cloudInitNoCloud" | "cloudInitConfigDrive":
                _cloud_init(source, where, found)
            case "configMap" | "secret" | "downwardAPI" | "sysprep":
                contents.validate(key, source, where, found)


def _name(source: Obj, key: str, path: str, found: Findings) -> None:
    if isinstance(source.get(key), str) and (error := dns_subdomain_error(source[key])):
        found.add(f"{path}.{key}", error)


def _capacity(source: Obj, path: str, found: Findings) -> None:
    size = amount(source.get("capacity"))
    if size is not None and not MIN_CAPACITY <= size < 2**63:
        message = f"{source['capacity']} is no size of a disk; a number of bytes such as 1Gi is wanted"
        found.add(f"{path}.capacity", message)


def _cloud_init(source: Obj, path: str, found: Findings) -> None:
    if not any(source.get(name) not in (None, "") for group in _SEED_FIELDS for name in group):
        found.required(path, f"one of {', '.join(_SEED_FIELDS[0])} is wanted, or network data")
    for plain, encoded, secret in _SEED_FIELDS:
        given = [name for name in (plain, encoded, secret) if source.get(name) not in (None, "")]
        if len(given) > 1:
            found.add(f"{path}.{given[1]}", f"{' and '.join(given)} exclude each other; give one")
        data: bytes | None = text(source.get(plain)).encode(errors="replace")
        if coded := text(source.get(encoded)):
            try:
                data = base64.b64decode("".join(coded.split()), validate=True)
            except (binascii.Error, ValueError):
                data = None
                found.add(f"{path}.{encoded}", "is no base64; encode the data with `base64 -w0`")
        if data is not None and len(data) > MAX_SEED:
            field = encoded if coded else plain
            message = (
                f"is {len(data)} bytes long; at most {MAX_SEED} fit, put more into a Secret and name it in {secret}"
            )
            found.add(f"{path}.{field}", message)
        if secret in source and isinstance(source[secret], dict):
            name = text(source[secret].get("name"))
            if error := dns_subdomain_error(name) if name else "required; the name of a Secret":
                found.add(f"{path}.{secret}.name", error)
