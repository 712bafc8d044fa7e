"""What a guest sees of a disk: what kind of device it is, on which bus, and whether it can write to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from polyvisor import api


@dataclass(frozen=True, slots=True)
class Disk:
    """One of ``spec.domain.devices.disks``.

    ``bus`` is the one that is named, else the usual one: SATA for a CD-ROM drive, SCSI for a LUN, virtio for a disk. A
    driver that prefers another fills that in before this is asked; ``bus_named`` is false where nobody has.
    """

    name: str
    kind: Literal["disk", "cdrom", "lun"]
    bus: str
    bus_named: bool
    readonly: bool

    @classmethod
    def of(cls, disk: api.Disk) -> Disk:
        """Read a typed disk."""
        if disk.cdrom is not None:
            return cls(disk.name, "cdrom", disk.cdrom.bus or "sata", bool(disk.cdrom.bus), True)
        if disk.lun is not None:
            return cls(disk.name, "lun", disk.lun.bus or "scsi", bool(disk.lun.bus), bool(disk.lun.readonly))
        bus = disk.disk.bus if disk.disk else None
        return cls(disk.name, "disk", bus or "virtio", bool(bus), bool(disk.disk and disk.disk.readonly))
