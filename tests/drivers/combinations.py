"""Machines in which fields meet: on one disk, on one network interface, and in the sections that bind each other.

Each family is the whole product of its axes. A combination that names no value for an axis leaves the field out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod
from random import Random
from typing import Any

from polyvisor.api import Obj
from polyvisor.testing.merging import at, merged

Axis = Sequence[tuple[str, Obj]]
"""Values of one field: a word for the combination's name, and the fragment of the manifest."""
EMPTY = "no-volume"
"""Marks a drive whose media is not there."""
CLAIM: Obj = {"persistentVolumeClaim": {"claimName": "claim"}}
LEFT: tuple[str, Obj] = ("", {})


def _fields(name: str, *values: Any) -> Axis:
    return (LEFT, *((f"{name}={value}", {name: value}) for value in values))


_TARGETS: Axis = (
    *((f"disk-{bus}", {"disk": {"bus": bus} if bus else {}}) for bus in ("", "virtio", "sata", "scsi", "usb")),
    *((f"readonly-{bus}", {"disk": {"bus": bus, "readonly": True}}) for bus in ("virtio", "sata", "scsi", "usb")),
    *((f"rotating-{bus}", {"disk": {"bus": bus, "rotationRate": 1}}) for bus in ("virtio", "sata", "scsi", "usb")),
    *((f"cdrom-{bus}", {"cdrom": {"bus": bus} if bus else {}}) for bus in ("", "sata", "scsi", "usb")),
    *((f"empty-{bus}", {"cdrom": {"bus": bus}, EMPTY: True}) for bus in ("sata", "scsi", "usb")),
    ("lun", {"lun": {}}),
    ("lun-readonly", {"lun": {"bus": "scsi", "readonly": True}}),
    *((f"placed-{bus}", {"disk": {"bus": bus, "pciAddress": "0000:00:1a.0"}}) for bus in ("virtio", "scsi", "sata")),
    ("placed-far", {"disk": {"bus": "virtio", "pciAddress": "0000:81:01.0"}}),
    ("placed-on-a-port", {"disk": {"bus": "virtio", "pciAddress": "0000:03:00.0"}}),
    ("placed-taken", {"disk": {"bus": "virtio", "pciAddress": "0000:00:1f.2"}}),
    ("placed-host", {"disk": {"bus": "virtio", "pciAddress": "0000:00:00.0"}}),
)
_DISK_AXES: tuple[Axis, ...] = (
    _TARGETS,
    _fields("cache", "none", "writethrough", "writeback"),
    _fields("io", "native", "threads"),
    _fields("dedicatedIOThread", True),
    _fields("serial", "S-1"),
    _fields("shareable", True),
    _fields("errorPolicy", "stop", "ignore", "report", "enospace"),
    _fields("bootOrder", 1),
    (
        LEFT,
        ("sized", {"blockSize": {"custom": {"logical": 4096, "physical": 4096}}}),
        ("matched", {"blockSize": {"matchVolume": {}}}),
        ("discarding", {"blockSize": {"custom": {"logical": 512, "physical": 512, "discardGranularity": 65536}}}),
        ("undiscarding", {"blockSize": {"custom": {"logical": 512, "physical": 512, "discardGranularity": 0}}}),
    ),
)
_DISK_MACHINES: Axis = (
    LEFT,
    (
        "plugged",
        {"volumes": [{"name": "disk", "persistentVolumeClaim": {"claimName": "claim", "hotpluggable": True}}]},
    ),
    ("policy-shared", at("domain.ioThreadsPolicy", "shared")),
    ("policy-auto", at("domain.ioThreadsPolicy", "auto")),
    ("queues", at("domain.devices.blockMultiQueue", True)),
    ("pc", at("domain.machine.type", "pc")),
    ("transitional", at("domain.devices.useVirtioTransitional", True)),
    ("transitional-pc", merged(at("domain.devices.useVirtioTransitional", True), at("domain.machine.type", "pc"))),
)
_CARD_AXES: tuple[Axis, ...] = (
    _fields("model", "virtio", "e1000", "e1000e", "ne2k_pci", "pcnet", "rtl8139"),
    _fields("macAddress", "02:00:00:00:00:01", "DE-AD-00-00-BE-EF", "01:00:5e:00:00:01"),
    _fields("pciAddress", "0000:00:1b.0", "0000:02:00.0", "0000:81:01.0", "0000:00:1f.2", "0000:00:01.0"),
    _fields("bootOrder", 1),
    _fields("acpiIndex", 0, 1, 16383, 16384),
    _fields("state", "up", "down", "absent"),
)
_CARD_MACHINES: Axis = (
    LEFT,
    ("queues", at("domain.devices.networkInterfaceMultiqueue", True)),
    ("pc", at("domain.machine.type", "pc")),
    ("no-acpi", at("domain.features.acpi.enabled", False)),
    ("transitional", at("domain.devices.useVirtioTransitional", True)),
)
_SWITCH = {"on": {"enabled": True}, "off": {"enabled": False}}
_PLATFORM_AXES: tuple[Axis, ...] = (
    (
        LEFT,
        ("bios", at("domain.firmware.bootloader.bios", {})),
        ("bios-serial", at("domain.firmware.bootloader.bios.useSerial", True)),
        ("efi", at("domain.firmware.bootloader.efi", {})),
        ("efi-insecure", at("domain.firmware.bootloader.efi.secureBoot", False)),
        ("efi-kept", at("domain.firmware.bootloader.efi", {"secureBoot": False, "persistent": True})),
    ),
    (
        LEFT,
        *(
            (name, at("domain.machine.type", name))
            for name in ("q35", "pc", "pc-q35-7.2", "pc-i440fx-7.2", "microvm", "isapc")
        ),
    ),
    (LEFT, *((f"acpi-{word}", at("domain.features.acpi", switch)) for word, switch in _SWITCH.items())),
    (LEFT, *((f"apic-{word}", at("domain.features.apic", switch)) for word, switch in _SWITCH.items())),
    (LEFT, *((f"smm-{word}", at("domain.features.smm", switch)) for word, switch in _SWITCH.items())),
    (LEFT, ("no-console", at("domain.devices.autoattachSerialConsole", False))),
    (LEFT, ("no-screen", at("domain.devices.autoattachGraphicsDevice", False))),
    (
        LEFT,
        ("threads", at("domain.cpu", {"sockets": 2, "cores": 1, "threads": 2})),
        ("many", at("domain.cpu.cores", 255)),
    ),
    (
        LEFT,
        *((f"panic-{model}", at("domain.devices.panicDevices", [{"model": model}])) for model in ("isa", "hyperv")),
        ("tpm", at("domain.devices.tpm", {})),
        ("tpm-kept", at("domain.devices.tpm.persistent", True)),
        ("hpet", at("domain.clock.timer.hpet.present", True)),
        ("pit", at("domain.clock.timer.pit.tickPolicy", "discard")),
        ("rtc", at("domain.clock.timer.rtc", {"tickPolicy": "merge", "track": "guest"})),
        ("usb", at("domain.devices.clientPassthrough", {})),
        *((f"video-{kind}", at("domain.devices.video.type", kind)) for kind in ("vga", "virtio", "bochs", "ramfb")),
        ("pages", at("domain.memory", {"guest": "64Mi", "hugepages": {"pageSize": "2Mi"}})),
    ),
)


def _disk(chosen: Sequence[Obj], machine: Obj) -> Obj:
    disk = {"name": "disk", **merged(*chosen)}
    volumes = [] if disk.pop(EMPTY, False) else [{"name": "disk", **CLAIM}]
    return merged(at("domain.devices.disks", [disk]), {"volumes": volumes}, machine)


def _card(chosen: Sequence[Obj], machine: Obj) -> Obj:
    card = {"name": "default", "masquerade": {}, **merged(*chosen)}
    device = at("domain.devices.interfaces", [card])
    return merged(machine, device, {"networks": [{"name": "default", "pod": {}}]})


def _platform(chosen: Sequence[Obj], machine: Obj) -> Obj:
    return merged(machine, *chosen)


FAMILIES: Mapping[str, tuple[tuple[Axis, ...], Axis, Any]] = {
    "disk": (_DISK_AXES, _DISK_MACHINES, _disk),
    "interface": (_CARD_AXES, _CARD_MACHINES, _card),
    "platform": (_PLATFORM_AXES, (LEFT,), _platform),
}
PLAIN: Obj = {"domain": {"memory": {"guest": "64Mi"}, "devices": {"autoattachPodInterface": False}}}


def combinations(family: str, seed: str = "", most: int = 0) -> Iterator[tuple[str, Obj]]:
    """Yield (name, spec) of a family's combinations: all, or ``most`` of them drawn by a seed."""
    axes, machines, build = FAMILIES[family]
    every = (*axes, machines)
    total = prod(map(len, every))
    chosen = Random(seed).sample(range(total), most) if 0 < most < total else None
    everything = product(*every)
    for parts in everything if chosen is None else (_numbered(every, number) for number in chosen):
        *fields, (word, machine) = parts
        name = " ".join(filter(None, [*(one for one, _ in fields), word])) or "plain"
        yield f"{family}: {name}", build([fragment for _, fragment in fields], merged(PLAIN, machine))


def _numbered(axes: Sequence[Axis], number: int) -> tuple[tuple[str, Obj], ...]:
    found = []
    for axis in axes:
        number, at_ = divmod(number, len(axis))
        found.append(axis[at_])
    return tuple(found)
