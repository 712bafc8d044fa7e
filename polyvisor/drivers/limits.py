"""What a machine can have too many of: CPUs, disks, network interfaces; and what counts them in a spec.

A driver's limits stand beside its table, each with a source, and are asked where features are: a machine that has more
than a driver takes lacks that as it would lack a feature. Up to ``everywhere`` no driver's limit is reached, so that
nothing needs to be asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polyvisor.machine import Disk, Vcpus, interfaces_of

if TYPE_CHECKING:
    from polyvisor.api import VirtualMachineInstanceSpec

Count = tuple[int, list[str]]
"""How many there are, and their fields: one each, or the one that says how many."""


@dataclass(frozen=True, slots=True)
class Countable:
    """Something that can be too many."""

    id: str
    title: str
    everywhere: int
    count: Callable[[VirtualMachineInstanceSpec], Count]


def _cpus(spec: VirtualMachineInstanceSpec) -> Count:
    vcpus = Vcpus.of(spec.domain)
    return vcpus.most, [vcpus.field] if vcpus.field else []


def _disks(spec: VirtualMachineInstanceSpec) -> Count:
    fields = [f"spec.domain.devices.disks[{number}]" for number, _ in enumerate(spec.domain.devices.disks or [])]
    return len(fields), fields


def _sata(spec: VirtualMachineInstanceSpec) -> Count:
    """Count the disks on SATA, and those that leave the bus to a driver that chooses SATA."""
    disks = enumerate(spec.domain.devices.disks or [])
    read = [(number, Disk.of(disk)) for number, disk in disks]
    fields = [f"spec.domain.devices.disks[{n}]" for n, disk in read if not disk.bus_named or disk.bus == "sata"]
    return len(fields), fields


def _on(bus: str) -> Callable[[VirtualMachineInstanceSpec], Count]:
    """Count the disks on a bus, by the usual choice where it is left open."""

    def count(spec: VirtualMachineInstanceSpec) -> Count:
        disks = enumerate(spec.domain.devices.disks or [])
        fields = [f"spec.domain.devices.disks[{number}]" for number, disk in disks if Disk.of(disk).bus == bus]
        return len(fields), fields

    return count


def _usb(spec: VirtualMachineInstanceSpec) -> Count:
    """Count what is plugged into the USB controller: disks, pointer devices, and the slots for clients' devices."""
    devices = spec.domain.devices
    count, fields = _on("usb")(spec)
    inputs = [n for n, device in enumerate(devices.inputs or []) if (device.bus or "usb") == "usb"]
    fields += [f"spec.domain.devices.inputs[{number}]" for number in inputs]
    if devices.client_passthrough is None:
        return count + len(inputs), fields
    fields += ["spec.domain.devices.clientPassthrough"] * CLIENT_SLOTS
    return count + len(inputs) + CLIENT_SLOTS, fields


def _serials(bus: str, least: int) -> Callable[[VirtualMachineInstanceSpec], Count]:
    """Count the characters of the longest serial number on a bus; the fields are all that are longer than ``least``."""

    def count(spec: VirtualMachineInstanceSpec) -> Count:
        longest, fields = 0, []
        for number, disk in enumerate(spec.domain.devices.disks or []):
            if Disk.of(disk).bus == bus and len(disk.serial or "") > least:
                longest = max(longest, len(disk.serial or ""))
                fields.append(f"spec.domain.devices.disks[{number}].serial")
        return longest, fields

    return count


def _serial_of(bus: str, title: str, least: int) -> Countable:
    what = f"characters in the serial number of a {title} disk"
    return Countable(f"limit.serial.{bus}", what, least, _serials(bus, least))


def _cdroms(spec: VirtualMachineInstanceSpec) -> Count:
    disks = enumerate(spec.domain.devices.disks or [])
    fields = [f"spec.domain.devices.disks[{number}]" for number, disk in disks if disk.cdrom is not None]
    return len(fields), fields


def _cached(spec: VirtualMachineInstanceSpec) -> Count:
    disks = enumerate(spec.domain.devices.disks or [])
    fields = [f"spec.domain.devices.disks[{number}].cache" for number, disk in disks if disk.cache]
    return len(fields), fields


def _cards(spec: VirtualMachineInstanceSpec) -> Count:
    fields = [interface.field for interface in interfaces_of(spec.domain) if interface.present]
    return len(fields), fields


CLIENT_SLOTS = 4
"""Slots for USB devices of clients, as many as KubeVirt has."""
COUNTABLES = (
    Countable("limit.cpus", "CPUs", 8, _cpus),
    Countable("limit.disks", "disks", 10, _disks),
    Countable("limit.cdroms", "CD-ROM drives", 4, _cdroms),
    Countable("limit.disks.cached", "disks with a cache mode", 7, _cached),
    Countable("limit.disks.sata", "disks on SATA", 10, _sata),
    Countable("limit.disks.sata.named", "disks on SATA by their own choice", 6, _on("sata")),
    Countable("limit.disks.virtio", "virtio disks", 10, _on("virtio")),
    Countable("limit.disks.scsi", "SCSI disks", 7, _on("scsi")),
    Countable("limit.usb", "USB devices (disks, pointer devices, slots for clients' devices)", 8, _usb),
    _serial_of("virtio", "virtio", 20),
    _serial_of("scsi", "SCSI", 36),
    _serial_of("sata", "SATA", 20),
    _serial_of("usb", "USB", 36),
    Countable("limit.interfaces", "network interfaces", 4, _cards),
)
