"""The catalogue: everything that a machine's spec can ask for and that some driver lacks, and which fields ask for it.

A feature is data: an id, a title for people, and places in the spec. Places are written as the attributes of the typed
objects (``disks[].cdrom.bus``) and read back as field paths of the manifest. Features of the lifecycle are asked for
by users' actions and not by fields, so they have no places. There is no second list: admission, placement, ``explain``,
documents and tests all read this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from polyvisor.api.base import wire_name

if TYPE_CHECKING:
    from polyvisor.api import VirtualMachineInstanceSpec

    Paths = Callable[[VirtualMachineInstanceSpec], list[str]]

Test = Any
"""What a place's value must be: ``SET`` (anything given), or a value that it equals, or a function that says so."""


def _set(value: Any) -> bool:
    return value is not None


def _more_than_one(value: Any) -> bool:
    return value is not None and value > 1


SET: Test = _set


@dataclass(frozen=True, slots=True)
class Feature:
    """One row of the table. ``paths`` returns the fields of a spec that need the feature; none: not asked for."""

    id: str
    title: str
    paths: Paths


def places(spec: Any, pattern: str, test: Test = SET) -> list[str]:
    """Return the field paths below ``spec`` that match ``pattern`` and pass ``test``."""
    return [path for path, value in _walk(spec, pattern.split("."), "spec") if _passes(value, test)]


def _passes(value: Any, test: Test) -> bool:
    return bool(test(value)) if callable(test) else type(value) is type(test) and value == test


def _walk(value: Any, parts: list[str], path: str) -> Iterator[tuple[str, Any]]:
    if not parts:
        yield path, value
        return
    if value is None:
        return
    name, many, _ = parts[0].partition("[]")
    inner = getattr(value, name, None)
    here = f"{path}.{wire_name(name)}"
    if many:
        for number, item in enumerate(inner or []):
            yield from _walk(item, parts[1:], f"{here}[{number}]")
    else:
        yield from _walk(inner, parts[1:], here)


def _paths(asked: tuple[tuple[str, Test], ...], spec: VirtualMachineInstanceSpec) -> list[str]:
    return [path for pattern, test in asked for path in places(spec, pattern, test)]


def _feature(id: str, title: str, *asked: tuple[str, Test]) -> Feature:
    return Feature(id, title, partial(_paths, asked))


def _named_model(value: Any) -> bool:
    return bool(value) and value not in ("host-passthrough", "host-model")


DISK = "domain.devices.disks[]"
NIC = "domain.devices.interfaces[]"
CPU = "domain.cpu"
FIRMWARE = "domain.firmware"
TIMER = "domain.clock.timer"
VOLUME = "volumes[]"


def _buses() -> Iterator[Feature]:
    for bus, title in (("virtio", "virtio"), ("sata", "SATA"), ("scsi", "SCSI"), ("usb", "USB")):
        targets = ((f"{DISK}.disk.bus", bus), (f"{DISK}.cdrom.bus", bus), (f"{DISK}.lun.bus", bus))
        yield _feature(f"disk.bus.{bus}", f"{title} disks", *targets)


def _caches() -> Iterator[Feature]:
    for mode in ("none", "writethrough", "writeback"):
        yield _feature(f"disk.cache.{mode}", f"Disk cache mode {mode}", (f"{DISK}.cache", mode))


def _nics() -> Iterator[Feature]:
    for model in ("virtio", "e1000", "e1000e", "igb", "ne2k_pci", "pcnet", "rtl8139"):
        yield _feature(f"interface.model.{model}", f"Network card {model}", (f"{NIC}.model", model))


FEATURES: tuple[Feature, ...] = (
    _feature("lifecycle.start", "Start"),
    _feature("lifecycle.shutdown", "Graceful power down"),
    _feature("lifecycle.destroy", "Forced power off"),
    _feature("lifecycle.pause", "Pause and resume"),
    _feature("lifecycle.adopt", "Keep running while the launcher is replaced"),
    _feature("lifecycle.events", "Lifecycle events"),
    _feature("lifecycle.console", "Serial console"),
    _feature("boot.disk", "Boot from a disk image"),
    _feature("boot.filesystem", "Boot from a tree of files"),
    _feature("cpu.count", "Number of CPUs", (f"{CPU}.cores", SET), (f"{CPU}.sockets", SET), (f"{CPU}.threads", SET)),
    _feature(
        "cpu.topology",
        "CPU sockets and threads",
        (f"{CPU}.sockets", _more_than_one),
        (f"{CPU}.threads", _more_than_one),
    ),
    _feature("cpu.model.host-passthrough", "CPU of the host, unchanged", (f"{CPU}.model", "host-passthrough")),
    _feature("cpu.model.host-model", "CPU like the host's", (f"{CPU}.model", "host-model")),
    _feature("cpu.model.named", "Named CPU model", (f"{CPU}.model", _named_model)),
    _feature("memory.guest", "Memory size", ("domain.memory.guest", SET)),
    _feature("machine.type", "Machine type", ("domain.machine.type", bool)),
    _feature("features.acpi", "ACPI", ("domain.features.acpi", SET)),
    _feature("features.apic", "APIC", ("domain.features.apic", SET)),
    _feature("firmware.uuid", "Firmware UUID", (f"{FIRMWARE}.uuid", bool)),
    _feature("firmware.serial", "System serial number", (f"{FIRMWARE}.serial", bool)),
    _feature("firmware.bios", "BIOS", (f"{FIRMWARE}.bootloader.bios", SET)),
    _feature(
        "firmware.bios.serial", "BIOS output on the serial port", (f"{FIRMWARE}.bootloader.bios.use_serial", True)
    ),
    _feature("firmware.efi", "UEFI", (f"{FIRMWARE}.bootloader.efi", SET)),
    _feature(
        "firmware.efi.secure-boot",
        "UEFI secure boot",
        (f"{FIRMWARE}.bootloader.efi", lambda efi: efi is not None and efi.secure_boot is not False),
    ),
    _feature("firmware.kernel-boot", "Direct kernel boot", (f"{FIRMWARE}.kernel_boot.container", SET)),
    _feature("firmware.kernel-args", "Kernel arguments", (f"{FIRMWARE}.kernel_boot.kernel_args", bool)),
    _feature("clock.timezone", "Clock in a time zone", ("domain.clock.timezone", bool)),
    _feature("clock.utc", "Clock in UTC", ("domain.clock.utc", SET)),
    _feature("clock.utc-offset", "Clock with an offset", ("domain.clock.utc.offset_seconds", SET)),
    _feature("timer.hpet", "HPET timer", (f"{TIMER}.hpet", SET)),
    _feature("timer.kvm", "KVM clock", (f"{TIMER}.kvm", SET)),
    _feature("timer.pit", "PIT timer", (f"{TIMER}.pit", SET)),
    _feature("timer.rtc", "RTC timer", (f"{TIMER}.rtc", SET)),
    _feature("timer.hyperv", "Hyper-V clock", (f"{TIMER}.hyperv", SET)),
    *_buses(),
    _feature("disk.cdrom", "CD-ROM drives", (f"{DISK}.cdrom", SET)),
    _feature("disk.cdrom.tray", "CD-ROM with its tray open", (f"{DISK}.cdrom.tray", "open")),
    _feature("disk.lun", "SCSI LUN passed through", (f"{DISK}.lun", SET)),
    _feature("disk.readonly", "Read-only disks", (f"{DISK}.disk.readonly", True), (f"{DISK}.lun.readonly", True)),
    _feature(
        "disk.readonly.sata",
        "Read-only SATA disks",
        (f"{DISK}.disk", lambda disk: disk is not None and disk.readonly and disk.bus == "sata"),
    ),
    _feature("disk.serial", "Disk serial numbers", (f"{DISK}.serial", bool)),
    *_caches(),
    _feature("disk.io", "Disk I/O mode", (f"{DISK}.io", bool)),
    _feature("disk.boot-order", "Boot order of disks", (f"{DISK}.boot_order", SET)),
    _feature("volume.container-disk", "Disk or tree from a container image", (f"{VOLUME}.container_disk", SET)),
    _feature("volume.empty-disk", "Empty scratch disk", (f"{VOLUME}.empty_disk", SET)),
    _feature("volume.host-disk", "Disk image of the host", (f"{VOLUME}.host_disk", SET)),
    _feature("volume.claim", "Persistent volume claim", (f"{VOLUME}.persistent_volume_claim", SET)),
    _feature("volume.cloud-init", "cloud-init data", (f"{VOLUME}.cloud_init_no_cloud", SET)),
    _feature("network.pod", "The Pod's network", ("networks[].pod", SET)),
    _feature("interface.masquerade", "Network address translation", (f"{NIC}.masquerade", SET)),
    *_nics(),
    _feature("interface.mac", "MAC address", (f"{NIC}.mac_address", bool)),
    _feature("interface.boot-order", "Boot from the network", (f"{NIC}.boot_order", SET)),
    _feature("interface.ports", "Reach the guest's ports", (f"{NIC}.ports[].port", SET)),
    _feature("interface.link-down", "Network card with its link down", (f"{NIC}.state", "down")),
    _feature("interface.absent", "Network card kept out", (f"{NIC}.state", "absent")),
    _feature("rng", "Random number generator", ("domain.devices.rng", SET)),
    _feature("watchdog.i6300esb", "Watchdog", ("domain.devices.watchdog.i6300esb", SET)),
    _feature("watchdog.diag288", "Watchdog of s390x", ("domain.devices.watchdog.diag288", SET)),
    _feature("input.tablet", "Pointer device", ("domain.devices.inputs[].type", "tablet")),
    _feature("graphics", "Graphics card", ("domain.devices.autoattach_graphics_device", True)),
    _feature("balloon", "Memory balloon", ("domain.devices.autoattach_mem_balloon", True)),
)
"""Every feature, in the order in which tables show them."""

BY_ID = {feature.id: feature for feature in FEATURES}
