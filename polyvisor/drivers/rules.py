"""Combinations of fields that some driver refuses, or carries out as something else than was asked for.

Each field may be supported alone. A driver's rules stand beside its table and its limits, each with a source: a
combination that a driver has a rule for is refused like a feature that the driver lacks. A combination without a rule
is taken.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polyvisor.machine import Disk, Vcpus, interfaces_of

if TYPE_CHECKING:
    from polyvisor.api import VirtualMachineInstanceSpec

DISKS = "spec.domain.devices.disks"
MAX_BUS = 0x40
"""The highest bus that a PCI address may name."""
ADDRESS = re.compile(r"([0-9a-f]{1,4}):([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])")


@dataclass(frozen=True, slots=True)
class Combination:
    """Fields that meet; ``find`` returns the paths of those that a user would change."""

    id: str
    title: str
    find: Callable[[VirtualMachineInstanceSpec], list[str]]


def machine_of(spec: VirtualMachineInstanceSpec) -> str:
    """Return the machine type, which is q35 where it is left open."""
    return (spec.domain.machine and spec.domain.machine.type) or "q35"


def is_q35(machine: str) -> bool:
    """Whether a machine type has PCI Express."""
    return "q35" in machine


def _threads_elsewhere(spec: VirtualMachineInstanceSpec) -> list[str]:
    disks = enumerate(spec.domain.devices.disks or [])
    return [f"{DISKS}[{n}].dedicatedIOThread" for n, d in disks if d.dedicated_io_thread and Disk.of(d).bus != "virtio"]


def _rates_elsewhere(spec: VirtualMachineInstanceSpec) -> list[str]:
    disks = enumerate(spec.domain.devices.disks or [])
    return [
        f"{DISKS}[{number}].disk.rotationRate"
        for number, disk in disks
        if disk.disk and disk.disk.rotation_rate and Disk.of(disk).bus not in ("sata", "scsi")
    ]


def _granularity_elsewhere(spec: VirtualMachineInstanceSpec) -> list[str]:
    """Find it on LUNs, and on disks that can come while the machine runs."""
    later = _plugged(spec)
    return [
        f"{DISKS}[{number}].blockSize.custom.discardGranularity"
        for number, disk in enumerate(spec.domain.devices.disks or [])
        if disk.lun or disk.name in later
        if disk.block_size and disk.block_size.custom and disk.block_size.custom.discard_granularity is not None
    ]


def _plugged(spec: VirtualMachineInstanceSpec) -> set[str]:
    """Return the names of the volumes that can come while the machine runs."""
    claims = [(one.name, one.persistent_volume_claim or one.data_volume) for one in spec.volumes or []]
    return {name for name, claim in claims if claim and claim.hotpluggable}


def _matched_later(spec: VirtualMachineInstanceSpec) -> list[str]:
    later = _plugged(spec)
    return [
        f"{DISKS}[{number}].blockSize.matchVolume"
        for number, disk in enumerate(spec.domain.devices.disks or [])
        if disk.name in later and disk.block_size and disk.block_size.match_volume
        if disk.block_size.match_volume.enabled is not False
    ]


def _addresses_elsewhere(spec: VirtualMachineInstanceSpec) -> list[str]:
    disks = enumerate(spec.domain.devices.disks or [])
    return [
        f"{DISKS}[{number}].disk.pciAddress"
        for number, disk in disks
        if disk.disk and disk.disk.pci_address and Disk.of(disk).bus != "virtio"
    ]


def _addresses(spec: VirtualMachineInstanceSpec) -> Iterator[tuple[str, str]]:
    devices = spec.domain.devices
    for number, disk in enumerate(devices.disks or []):
        if disk.disk and disk.disk.pci_address:
            yield f"{DISKS}[{number}].disk.pciAddress", disk.disk.pci_address.lower()
    for interface in interfaces_of(spec.domain):
        if interface.pci_address and interface.present:
            yield f"{interface.field}.pciAddress", interface.pci_address


def _no_place(spec: VirtualMachineInstanceSpec) -> list[str]:
    express = is_q35(machine_of(spec))
    return [field for field, address in _addresses(spec) if not _is_place(address, express)]


def _is_place(address: str, express: bool) -> bool:
    found = ADDRESS.fullmatch(address)
    if not found:
        return True  # what is no address at all is refused elsewhere
    domain, bus, slot, function = (int(number, 16) for number in found.groups())
    if domain or function:
        return False
    if bus == 0:
        return 2 <= slot <= 0x1E if express else 3 <= slot <= 0x1F
    return express and bus <= MAX_BUS and slot == 0


def _one_place(spec: VirtualMachineInstanceSpec) -> list[str]:
    found = list(_addresses(spec))
    count = Counter(address for _, address in found)
    return [field for field, address in found if count[address] > 1][1:]


def _efi_without_acpi(spec: VirtualMachineInstanceSpec) -> list[str]:
    features = spec.domain.features
    off = features and features.acpi and features.acpi.enabled is False
    return ["spec.domain.features.acpi.enabled"] if off and _efi(spec) else []


def _efi(spec: VirtualMachineInstanceSpec) -> bool:
    firmware = spec.domain.firmware
    return bool(firmware and firmware.bootloader and firmware.bootloader.efi)


def _secure(spec: VirtualMachineInstanceSpec) -> bool:
    firmware = spec.domain.firmware
    efi = firmware and firmware.bootloader and firmware.bootloader.efi
    return bool(efi) and efi.secure_boot is not False  # type: ignore[union-attr]


SECURE = "spec.domain.firmware.bootloader.efi.secureBoot"


def _secure_elsewhere(spec: VirtualMachineInstanceSpec) -> list[str]:
    return [SECURE] if _secure(spec) and not is_q35(machine_of(spec)) else []


def _secure_without_smm(spec: VirtualMachineInstanceSpec) -> list[str]:
    smm = spec.domain.features and spec.domain.features.smm
    return ["spec.domain.features.smm.enabled"] if smm and smm.enabled is False and _secure(spec) else []


def _bios_without_port(spec: VirtualMachineInstanceSpec) -> list[str]:
    firmware = spec.domain.firmware
    bios = firmware and firmware.bootloader and firmware.bootloader.bios
    if bios and bios.use_serial and spec.domain.devices.autoattach_serial_console is False:
        return ["spec.domain.firmware.bootloader.bios.useSerial"]
    return []


BOARD = re.compile(r"(pc|q35|pc-(q35|i440fx)-[A-Za-z0-9._-]+)")


def _other_board(spec: VirtualMachineInstanceSpec) -> list[str]:
    return [] if BOARD.fullmatch(machine_of(spec)) else ["spec.domain.machine.type"]


def _cpus_without_apic(spec: VirtualMachineInstanceSpec) -> list[str]:
    features = spec.domain.features
    off = features and features.apic and features.apic.enabled is False
    return ["spec.domain.features.apic.enabled"] if off and Vcpus.of(spec.domain).count > 1 else []


def _further_inputs(spec: VirtualMachineInstanceSpec) -> list[str]:
    return [f"spec.domain.devices.inputs[{number}]" for number in range(1, len(spec.domain.devices.inputs or []))]


def _caches_of_cdroms(spec: VirtualMachineInstanceSpec) -> list[str]:
    disks = enumerate(spec.domain.devices.disks or [])
    return [f"{DISKS}[{n}].cache" for n, disk in disks if disk.cdrom and disk.cdrom.bus != "scsi" and disk.cache]


def _empty_on_usb(spec: VirtualMachineInstanceSpec) -> list[str]:
    volumes = {volume.name for volume in spec.volumes or []}
    drives = [(n, one) for n, one in enumerate(spec.domain.devices.disks or []) if one.cdrom and one.cdrom.bus == "usb"]
    return [f"{DISKS}[{number}].cdrom.bus" for number, drive in drives if drive.name not in volumes]


def _serials_of_cdroms(spec: VirtualMachineInstanceSpec) -> list[str]:
    disks = enumerate(spec.domain.devices.disks or [])
    return [f"{DISKS}[{number}].serial" for number, disk in disks if disk.cdrom and disk.serial]


COMBINATIONS = (
    Combination("rule.machine.board", "Machine type without the board of a PC", _other_board),
    Combination("rule.disk.io-thread", "I/O thread of a disk that is not on virtio", _threads_elsewhere),
    Combination("rule.disk.pci-address", "PCI address of a disk that is not on virtio", _addresses_elsewhere),
    Combination("rule.disk.rotation-rate", "Rotation rate of a disk that is not on SATA or SCSI", _rates_elsewhere),
    Combination(
        "rule.disk.discard-granularity", "Discard granularity of a LUN or a hotplugged disk", _granularity_elsewhere
    ),
    Combination("rule.disk.match-volume", "Block size of the volume of a hotplugged disk", _matched_later),
    Combination("rule.pci.place", "PCI address", _no_place),
    Combination("rule.pci.twice", "PCI address that another device has", _one_place),
    Combination("rule.efi.acpi", "UEFI with ACPI switched off", _efi_without_acpi),
    Combination("rule.efi.machine", "Secure boot on another machine type than q35", _secure_elsewhere),
    Combination("rule.efi.smm", "Secure boot with system management mode switched off", _secure_without_smm),
    Combination("rule.cpus.apic", "More CPUs than one with the APIC switched off", _cpus_without_apic),
    Combination("rule.inputs.several", "More pointer devices than one", _further_inputs),
    Combination("rule.cdrom.cache", "Cache mode of a CD-ROM drive that is not on SCSI", _caches_of_cdroms),
    Combination("rule.cdrom.usb", "CD-ROM drive without media on USB", _empty_on_usb),
    Combination("rule.cdrom.serial", "Serial number of a CD-ROM drive", _serials_of_cdroms),
    Combination("rule.bios.serial", "BIOS output on a serial port that is switched off", _bios_without_port),
)
"""Every combination that a driver may have a rule for."""
