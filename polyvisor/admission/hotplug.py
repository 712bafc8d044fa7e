"""What of an instance's spec may change: volumes that come and go, their disks, network cards as :mod:`.cards` has it,
CPU sockets that are added, how long its end may take.

All else is fixed for an instance's life; its VirtualMachine is what changes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

from polyvisor.admission.cards import RESTART, cards, changes
from polyvisor.admission.values import Findings, items, mapping, number, text
from polyvisor.api import Obj
from polyvisor.api.volumes import passing
from polyvisor.drivers.base import Driver
from polyvisor.drivers.features import BY_ID
from polyvisor.drivers.verdict import answer_of, hotplug_buses, supports

INTERFACES = "domain.devices.interfaces"
CPUS = "lifecycle.hotplug.cpu"


def may_change(new: Obj, old: Obj) -> bool:
    """Whether two specs differ in nothing but what may change."""
    drives = _drives(old)
    changing = changes(cards(old), cards(new)).values()
    return RESTART not in changing and _permanent(new, drives) == _permanent(old, drives)


def validate(new: Obj, old: Obj, driver: Driver | None, path: str, found: Findings, drivers: Iterable[Driver]) -> None:
    """Check what comes, goes or changes; ``driver`` is the one that runs the machine, None: one of ``drivers`` will."""
    _sockets(new, old, driver, path, found)
    _volumes(new, old, path, found, hotplug_buses(drivers if driver is None else [driver]))
    places = {text(card.get("name")): where for where, card in items(_interfaces(new), f"{path}.{INTERFACES}")}
    for name, feature in changes(cards(old), cards(new)).items():
        if driver is not None and not supports(driver, feature):
            reason = answer_of(driver, feature).reason
            message = f"{BY_ID[feature].title} with {driver.title}: {reason}"
            found.add(places.get(name, f"{path}.{INTERFACES}"), message, "FieldValueNotSupported", feature)


def _sockets(new: Obj, old: Obj, driver: Driver | None, path: str, found: Findings) -> None:
    """Check that sockets are only added, up to the most there is room for, where the driver can."""
    now, before = (number(mapping(one, "domain", "cpu").get("sockets")) or 1 for one in (new, old))
    most, where = number(mapping(old, "domain", "cpu").get("maxSockets")) or before, f"{path}.domain.cpu.sockets"
    if now == before:
        return
    if not before < now <= most:
        found.add(where, f"found {now}; {before} to {most} are accepted while the machine runs", "FieldValueForbidden")
    elif driver is not None and not supports(driver, CPUS):
        message = f"{BY_ID[CPUS].title} with {driver.title}: {answer_of(driver, CPUS).reason}"
        found.add(where, message, "FieldValueNotSupported", CPUS)


def _volumes(new: Obj, old: Obj, path: str, found: Findings, buses: Sequence[str]) -> None:
    """Check the volumes that come: each needs a disk, on a bus that takes one while the machine runs."""
    had = {text(volume.get("name")) for _, volume in items(old.get("volumes"), "")}
    below = f"{path}.domain.devices.disks"
    disks = {text(disk.get("name")): (where, disk) for where, disk in items(_disks(new), below)}
    drives = _drives(old)
    for where, volume in items(new.get("volumes"), f"{path}.volumes"):
        name = text(volume.get("name"))
        if name in had or "memoryDump" in volume:
            continue
        if name not in disks:
            found.add(where, "a volume that is added to a running machine needs a disk of its name")
            continue
        place, disk = disks[name]
        bus = mapping(disk, "disk").get("bus")
        if disk.get("cdrom") is not None and name in drives:
            continue  # a disc is put into the drive
        if disk.get("cdrom") is not None or disk.get("lun") is not None:
            found.add(place, "only a target of kind disk can be attached while a machine runs")
        elif bus not in buses:
            accepted = ", ".join(buses) or "none, as its driver attaches no disks"
            found.add(f"{place}.disk.bus", f"found {text(bus)!r}, accepted for a running machine: {accepted}")


def _drives(spec: Obj) -> set[str]:
    """Return the names of the CD-ROM drives, which stay when their discs go."""
    return {text(disk.get("name")) for _, disk in items(_disks(spec), "") if disk.get("cdrom") is not None}


def _permanent(spec: Obj, drives: set[str]) -> Obj:
    kept = copy.deepcopy(spec)
    gone = {text(volume.get("name")) for _, volume in items(kept.get("volumes"), "") if passing(volume)}
    kept["volumes"] = [volume for _, volume in items(kept.get("volumes"), "") if text(volume.get("name")) not in gone]
    for changing in ("terminationGracePeriodSeconds", "networks"):
        kept.pop(changing, None)
    if mapping(kept, "domain", "cpu").get("maxSockets"):
        mapping(kept, "domain", "cpu").pop("sockets", None)
    devices = mapping(kept, "domain", "devices")
    devices.pop("interfaces", None)
    disks = items(devices.get("disks"), "")
    devices["disks"] = [disk for _, disk in disks if text(disk.get("name")) not in gone - drives]
    return kept


def _interfaces(spec: Obj) -> object:
    return mapping(spec, "domain", "devices").get("interfaces")


def _disks(spec: Obj) -> object:
    return mapping(spec, "domain", "devices").get("disks")
