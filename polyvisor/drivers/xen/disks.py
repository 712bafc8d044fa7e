"""Names of disks, by which alone libxl knows what they are: ``xvdb`` is Xen's own, ``hdc`` IDE, ``sda`` SCSI.

In a whole machine the first four of Xen's own disks are shown by the device model as well, in the same four places as
IDE disks, so that firmware can boot from them. Two things follow. A CD-ROM must be in one of the four, and takes the
last that is free. A read-only disk must not be, for the device model has no read-only IDE disks and the start fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING

from polyvisor.domain.disks import letters

if TYPE_CHECKING:
    from lxml.etree import _Element

IDE_PLACES = 4


def name_disks(disks: Sequence[_Element], whole: bool) -> None:
    """Give each disk the name that makes it what it is asked to be."""
    taken: set[int] = set()
    scsi = count()
    if whole:
        for disk in disks:
            if disk.get("device") == "cdrom":
                place = next((n for n in reversed(range(IDE_PLACES)) if n not in taken), None)
                if place is None:
                    raise ValueError(f"spec.domain.devices.disks: there is room for {IDE_PLACES} CD-ROM drives")
                taken.add(place)
                _name(disk, "hd", "ide", place)
    for disk in disks:
        target = disk.find("target")
        if whole and disk.get("device") == "cdrom":
            continue
        if whole and target is not None and target.get("bus") == "scsi":
            _name(disk, "sd", "scsi", next(scsi))
            continue
        first = IDE_PLACES if whole and disk.find("readonly") is not None else 0
        place = next(n for n in count(first) if n not in taken)
        taken.add(place)
        _name(disk, "xvd", "xen", place)


def _name(disk: _Element, prefix: str, bus: str, place: int) -> None:
    target = disk.find("target")
    assert target is not None
    target.attrib.clear()
    target.set("dev", f"{prefix}{letters(place)}")
    target.set("bus", bus)
