"""Disks and CD-ROMs. A device's name in the guest follows from bus and order, so the same spec gives the same names."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from polyvisor.domain.xml import add

if TYPE_CHECKING:
    from lxml.etree import _Element

    from polyvisor.api import Disk, DomainSpec
    from polyvisor.domain.context import DiskSource, DomainContext

PREFIXES = {"virtio": "vd", "sata": "sd", "scsi": "sd", "usb": "sd"}
ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def add_disks(devices: _Element, spec: DomainSpec, context: DomainContext) -> None:
    """Write every disk that has an image file; one that became the root filesystem is no disk."""
    used: Counter[str] = Counter()
    disks = [disk for disk in spec.devices.disks or [] if disk.name in context.disks]
    for disk in disks:
        bus, device, readonly = target_of(disk)
        prefix = PREFIXES.get(bus, "sd")
        _add_disk(devices, disk, context.disks[disk.name], f"{prefix}{letters(used[prefix])}", bus, device, readonly)
        used[prefix] += 1
    if any(target_of(disk)[0] == "scsi" for disk in disks):
        add(devices, "controller", type="scsi", index=0, model="virtio-scsi")


def add_filesystems(devices: _Element, context: DomainContext) -> None:
    """Write the root filesystem, and the other folders below /mnt by their volume's name."""
    targets = [(context.root, "/")] if context.root else []
    targets += [(folder, f"/mnt/{name}") for name, folder in sorted(context.folders.items())]
    for source, target in targets:
        filesystem = add(devices, "filesystem", type="mount", accessmode="passthrough")
        add(filesystem, "source", dir=str(source))
        add(filesystem, "target", dir=target)


def target_of(disk: Disk) -> tuple[str, str, bool]:
    """Return bus, device and whether it is read-only."""
    if disk.cdrom is not None:
        return disk.cdrom.bus or "sata", "cdrom", True
    if disk.lun is not None:
        return disk.lun.bus or "scsi", "lun", bool(disk.lun.readonly)
    return (disk.disk and disk.disk.bus) or "virtio", "disk", bool(disk.disk and disk.disk.readonly)


def letters(number: int) -> str:
    """Return a, b, ... z, aa, ab, ... for 0, 1, ..."""
    text = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, len(ALPHABET))
        text = ALPHABET[rest] + text
    return text


def _add_disk(
    devices: _Element, disk: Disk, source: DiskSource, name: str, bus: str, device: str, readonly: bool
) -> None:
    element = add(devices, "disk", type="file", device=device)
    add(element, "driver", type=source.format, cache=disk.cache or None, io=disk.io or None)
    add(element, "source", file=str(source.path))
    tray = disk.cdrom.tray if disk.cdrom else None
    add(element, "target", dev=name, bus=bus, tray=tray or None)
    if readonly:
        add(element, "readonly")
    if disk.serial:
        add(element, "serial", disk.serial)
    if disk.boot_order is not None:
        add(element, "boot", order=disk.boot_order)
    add(element, "alias", name=f"ua-{disk.name}")
