"""The machines that show QEMU's features: each asks for as much as can stand side by side, for a boot costs seconds.

``SEEN`` says of each feature in which machine's report it shows, and how.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.drivers.feature_guest import Facts

UUID = "5d307ca9-b3ef-428c-8861-06e72d69f223"
MIB = 1024
KERNEL = {"image": "k", "kernelPath": "/vmlinuz", "initrdPath": "/initrd"}
OFFSET = 3600
IMAGES = ("first", "second")
"""Container images, each with a disk that begins with its name."""
CARDS = ("virtio", "e1000", "e1000e", "ne2k_pci", "pcnet", "rtl8139")


@dataclass(frozen=True)
class Guest:
    """A machine: its domain, the bytes of its disks by name, and what the console says when the report is whole.

    ``args`` are the kernel's arguments; without them it boots from its disks. ``until`` is the state in which it ends.
    ``admitted`` is false for one that only the renderer takes. ``volumes`` are prepared as the agent does.
    """

    domain: dict[str, Any]
    disks: Mapping[str, bytes] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)
    args: str | None = ""
    end: bytes = b"FACT end"
    until: str = "running"
    admitted: bool = True
    volumes: Sequence[Mapping[str, Any]] = ()


def boot_sector(words: str) -> bytes:
    """Return a disk whose boot sector says ``words`` by the BIOS and stops (x86 real mode)."""
    code = (
        bytes.fromhex(
            "31c0"  # xor ax, ax
            "8ed8"  # mov ds, ax
            "be137c"  # mov si, message
            "ac"  # next: lodsb
            "08c0"  # or al, al
            "74fe"  # jz here
            "b40e"  # mov ah, 0x0e
            "cd10"  # int 0x10
            "ebf5"  # jmp next
        )
        + b"\x90"
    )
    sector = (code + words.encode() + b"\0").ljust(510, b"\0") + b"\x55\xaa"
    return sector.ljust(1 << 20, b"\0")


def _disk(name: str, bus: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "disk": {"bus": bus}, **more}


def _card_of(number: str, **more: Any) -> dict[str, Any]:
    return {"name": f"card-{number}", "masquerade": {}, "macAddress": f"02:00:00:00:00:0{number}", **more}


def _content(*names: str) -> dict[str, bytes]:
    return {name: f"disk-{name}".encode().ljust(1 << 20, b"\0") for name in names}


BUSES = {"scsi": 30, "sata": 8, "usb": 2, "virtio": 6}
"""How many disks of each bus the crowded machines have: more than one controller takes, where it takes few."""
CROWD = [f"{bus}-{number}" for bus, count in BUSES.items() for number in range(count)]


def _crowd(kind: str) -> dict[str, Any]:
    return {
        "memory": {"guest": "256Mi"},
        "machine": {"type": kind},
        "devices": {
            "disks": [_disk(name, name.partition("-")[0], serial=f"S-{name}") for name in CROWD],
            "autoattachPodInterface": False,
        },
    }


GUESTS: dict[str, Guest] = {
    "disks": Guest(
        {
            "cpu": {"sockets": 2, "maxSockets": 3, "model": "host-model"},
            "memory": {"guest": "256Mi"},
            "firmware": {"uuid": UUID, "serial": "sys-serial"},
            "chassis": {"manufacturer": "Chassis Maker", "version": "v1", "serial": "c-1", "asset": "a-1"},
            "ioThreadsPolicy": "auto",
            "devices": {
                "disks": [
                    _disk("v", "virtio", serial="serial-v", cache="none", io="threads", errorPolicy="report")
                    | {"blockSize": {"custom": {"logical": 4096, "physical": 4096}}, "dedicatedIOThread": True},
                    {"name": "r", "disk": {"bus": "virtio", "readonly": True, "pciAddress": "0000:00:1a.0"}},
                    _disk("s", "scsi", cache="writeback"),
                    _disk("a", "sata", cache="writethrough"),
                    _disk("u", "usb"),
                    {"name": "c", "cdrom": {"bus": "sata"}},
                ],
                "inputs": [
                    {"name": "t", "type": "tablet", "bus": "virtio"},
                    {"name": "u", "type": "tablet", "bus": "usb"},
                ],
                "rng": {},
                "watchdog": {"name": "dog", "i6300esb": {}},
                "sound": {"name": "card", "model": "ich9"},
                "panicDevices": [{"model": "isa"}],
                "blockMultiQueue": True,
                "autoattachMemBalloon": True,
                "autoattachPodInterface": False,
            },
        },
        _content(*"vrsauc"),
        args="await=sdc the-argument",
    ),
    "volumes": Guest(
        {
            "memory": {"guest": "160Mi"},
            "devices": {
                "disks": [
                    *(_disk(name, "virtio") for name in ("dv", "layer", "maps", "words", "self", *IMAGES)),
                    {"name": "answers", "cdrom": {"bus": "sata"}},
                    {"name": "drive", "cdrom": {"bus": "sata"}},
                ],
                "filesystems": [{"name": name, "virtiofs": {}} for name in ("folder", "texts")],
                "autoattachPodInterface": False,
            },
        },
        args="await=sr1 shares=folder,texts",
        volumes=(
            {"name": "dv", "dataVolume": {"name": "dv"}},
            {"name": "layer", "ephemeral": {"persistentVolumeClaim": {"claimName": "below"}}},
            {"name": "folder", "persistentVolumeClaim": {"claimName": "folder"}},
            {"name": "texts", "configMap": {"name": "maps"}},
            {"name": "maps", "configMap": {"name": "maps", "volumeLabel": "maps"}},
            {"name": "words", "secret": {"secretName": "words", "volumeLabel": "words"}},
            {
                "name": "self",
                "downwardAPI": {
                    "fields": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}],
                    "volumeLabel": "self",
                },
            },
            {"name": "answers", "sysprep": {"configMap": {"name": "answers"}}},
            {"name": "drive", "cloudInitConfigDrive": {"userData": "the-user-data"}},
            *({"name": name, "containerDisk": {"image": f"localhost/{name}:1"}} for name in IMAGES),
        ),
    ),
    "cards": Guest(
        {
            "cpu": {"cores": 1, "threads": 2},
            "memory": {"guest": "160Mi"},
            "clock": {"utc": {"offsetSeconds": OFFSET}, "timer": {"hpet": {"present": False}}},
            "devices": {
                "interfaces": [
                    {
                        "name": model.replace("_", "-"),
                        "masquerade": {},
                        "model": model,
                        "macAddress": f"02:00:00:00:00:0{n}",
                    }
                    for n, model in enumerate(CARDS)
                ]
                + [
                    {
                        "name": "down",
                        "masquerade": {},
                        "state": "down",
                        "macAddress": "02:00:00:00:00:0d",
                        "acpiIndex": 7,
                    }
                ]
                + [
                    {
                        "name": "placed",
                        "masquerade": {},
                        "pciAddress": "0000:00:1b.0",
                        "macAddress": "02:00:00:00:00:0e",
                    }
                ],
                "sound": {"name": "card", "model": "ac97"},
                "autoattachMemBalloon": False,
                "video": {"type": "virtio"},
            },
        },
        admitted=False,  # for admission a machine has one card on the Pod's network
    ),
    "bare": Guest(
        {
            "cpu": {"model": "Nehalem", "features": [{"name": "aes"}, {"name": "sse4.2", "policy": "disable"}]},
            "memory": {"guest": "160Mi"},
            "machine": {"type": "pc"},
            "features": {"acpi": {"enabled": False}, "apic": {"enabled": False}},
            "clock": {"timezone": "Asia/Tokyo"},
            "rebootPolicy": "Terminate",
            "devices": {"autoattachPodInterface": False},
        },
        args="then=reboot",
        until="shutoff",
    ),
    "disk": Guest(
        {
            "memory": {"guest": "64Mi"},
            "firmware": {"bootloader": {"bios": {"useSerial": True}}},
            "devices": {
                "disks": [_disk("one", "virtio", bootOrder=2), _disk("two", "virtio", bootOrder=1)],
                "autoattachPodInterface": False,
            },
        },
        {name: boot_sector(f"BOOTED {name}") for name in ("one", "two")},
        args=None,
        end=b"BOOTED",
    ),
    "uefi": Guest(
        {
            "memory": {"guest": "256Mi"},
            "firmware": {"bootloader": {"efi": {"secureBoot": False}}},
            "devices": {"autoattachPodInterface": False, "tpm": {}},
        },
    ),
    "secure": Guest(
        {
            "memory": {"guest": "256Mi"},
            "features": {"smm": {}},
            "firmware": {"bootloader": {"efi": {"secureBoot": True}}},
            "devices": {"autoattachPodInterface": False},
        },
    ),
    "net": Guest(
        {
            "memory": {"guest": "64Mi"},
            "firmware": {"bootloader": {"bios": {"useSerial": True}}},
            "devices": {
                "disks": [_disk("one", "virtio", bootOrder=2)],
                "interfaces": [{"name": "default", "masquerade": {}, "bootOrder": 1}],
            },
        },
        {"one": boot_sector("BOOTED one")},
        spec={"networks": [{"name": "default", "pod": {}}]},
        args=None,
        end=b"net0",
    ),
}


CROWDS = {kind: Guest(_crowd(kind), _content(*CROWD), args="await=sdan brief") for kind in ("q35", "pc")}
"""Machines with more disks than one controller of libvirt's own choice takes."""


def _mac(facts: Facts, number: str) -> str:
    """Return the name in the guest of the card whose MAC address ends so."""
    return next(key.split(".")[1] for key, value in facts.items() if value == f"02:00:00:00:00:0{number}")


def _card(number: int, driver: str) -> Callable[[Facts], bool]:
    return lambda facts: facts[f"net.{_mac(facts, str(number))}.driver"] == driver


def _pci(facts: Facts, ids: str) -> list[str]:
    return [key.removeprefix("pci.") for key, value in facts.items() if key.startswith("pci.") and ids in value]


def _by_start(facts: Facts, name: str) -> str:
    """Return the guest's name of the disk that holds what was put on ``name``."""
    return next(k.split(".")[1] for k, v in facts.items() if k.endswith(".start") and v == f"disk-{name}")


def _of(name: str, what: str, pattern: str) -> Callable[[Facts], bool]:
    return lambda facts: bool(re.search(pattern, facts.get(f"disk.{_by_start(facts, name)}.{what}", "")))


Check = tuple[str, Callable[[Facts], bool]]
SEEN: dict[str, Check] = {
    "cpu.count": ("disks", lambda f: f["cpu.count"] == "2"),
    "cpu.topology": ("disks", lambda f: f["cpu.sockets"] == "2"),
    "cpu.max-sockets": ("disks", lambda f: f["cpu.possible"] == "0-2"),
    "cpu.threads": ("cards", lambda f: f["cpu.threads"] == "0-1"),
    "cpu.model.host-model": ("disks", lambda f: "TCG" not in f["cpu.model"]),
    "cpu.model.named": ("bare", lambda f: "Nehalem" in f["cpu.model"]),
    "cpu.features": ("bare", lambda f: "aes" in f["cpu.flags"].split() and "sse4_2" not in f["cpu.flags"].split()),
    "memory.guest": ("disks", lambda f: 190 * MIB < int(f["memory.kib"]) < 256 * MIB),
    "machine.type": ("bare", lambda f: bool(_pci(f, "0x8086 0x1237"))),
    "features.acpi": ("bare", lambda f: f["acpi"] == "no"),
    "features.apic": ("bare", lambda f: f["ioapic"] == "no"),
    "firmware.uuid": ("disks", lambda f: f["dmi.product_uuid"] == UUID),
    "firmware.serial": ("disks", lambda f: f["dmi.product_serial"] == "sys-serial"),
    "firmware.chassis": ("disks", lambda f: f["dmi.chassis_vendor"] == "Chassis Maker"),
    "firmware.efi": ("uefi", lambda f: f["efi"] == "yes" and "OVMF" in f["dmi.bios_vendor"]),
    "firmware.efi.secure-boot": ("secure", lambda f: f.get("secureboot") == "1"),
    "tpm": ("uefi", lambda f: f["tpm"] == "2" and f.get("tpm.acpi") == "yes"),
    "firmware.kernel-boot": ("disks", lambda f: "end" in f),
    "firmware.kernel-args": ("disks", lambda f: "the-argument" in f["cmdline"]),
    "clock.utc": ("disks", lambda f: abs(_lead(f)) < 900),
    "clock.utc-offset": ("cards", lambda f: abs(_lead(f) - OFFSET) < 900),
    "clock.timezone": ("bare", lambda f: abs(_lead(f) - 9 * 3600) < 900),
    "timer.hpet": ("cards", lambda f: f["hpet"] == "no" and "hpet" not in f["clocksources"]),
    "disk.bus.virtio": ("disks", _of("v", "path", r"/virtio\d+/block/vd")),
    "disk.bus.scsi": ("disks", _of("s", "path", r"/virtio\d+/host\d+/")),
    "disk.bus.sata": ("disks", _of("a", "path", r"/ata\d+/")),
    "disk.bus.usb": ("disks", _of("u", "path", r"/usb\d+/")),
    "disk.cdrom": ("disks", _of("c", "path", r"/block/sr\d")),
    "disk.serial": ("disks", _of("v", "serial", "^serial-v$")),
    "disk.readonly": ("disks", _of("r", "readonly", "^1$")),
    "disk.block-size": ("disks", _of("v", "logical", "^4096$")),
    "disk.pci-address": ("disks", _of("r", "path", "/0000:00:1a.0/")),
    "disk.multiqueue": ("disks", _of("v", "queues", "^2$")),
    "disk.cache.none": ("disks", _of("v", "writecache", "^write back$")),
    "disk.cache.writeback": ("disks", _of("s", "writecache", "^write back$")),
    "disk.cache.writethrough": ("disks", _of("a", "writecache", "^write through$")),
    "disk.discard": ("disks", lambda f: f["disk.vda.discard"] != "0"),
    "disk.format.raw": ("disks", lambda f: f[f"disk.{_by_start(f, 'v')}.bytes"] == str(1 << 20)),
    "volume.host-disk": ("disks", lambda f: f[f"disk.{_by_start(f, 'v')}.bytes"] == str(1 << 20)),
    "volume.container-disk": ("volumes", lambda f: bool(_by_start(f, "first"))),
    "volume.container-disk.further": ("volumes", lambda f: bool(_by_start(f, "second"))),
    "volume.data-volume": ("volumes", lambda f: bool(_by_start(f, "dv"))),
    "volume.ephemeral": ("volumes", lambda f: bool(_by_start(f, "below"))),
    "volume.config-map": ("volumes", lambda f: f["disc.maps/Some.Key"] == "a-value"),
    "volume.secret": ("volumes", lambda f: f["disc.words/password"] == "a-secret"),
    "volume.downward-api": ("volumes", lambda f: f["disc.self/name"] == "virt-launcher-volumes"),
    "volume.sysprep": ("volumes", lambda f: f["disc.unattendCfg/autounattend.xml"] == "<unattend/>"),
    "volume.config-drive": ("volumes", lambda f: f["disc.config-2/openstack/latest/user_data"] == "the-user-data"),
    "filesystem.virtiofs": (
        "volumes",
        lambda f: (
            f["share.folder/of-the-host"] == f["share.texts/Some.Key"] == "a-value"
            and f["share.folder.writable"] == "yes"
        ),
    ),
    "network.pod": ("cards", lambda f: f[f"net.{_mac(f, '0')}.carrier"] == "1"),
    "interface.masquerade": ("cards", lambda f: f[f"net.{_mac(f, '0')}.carrier"] == "1"),
    "interface.mac": ("cards", lambda f: _mac(f, "0").startswith("eth")),
    "interface.model.virtio": ("cards", _card(0, "virtio_net")),
    "interface.model.e1000": ("cards", _card(1, "e1000")),
    "interface.model.e1000e": ("cards", _card(2, "e1000e")),
    "interface.model.ne2k_pci": ("cards", _card(3, "ne2k-pci")),
    "interface.model.pcnet": ("cards", _card(4, "pcnet32")),
    "interface.model.rtl8139": ("cards", _card(5, "8139cp")),
    "interface.link-down": ("cards", lambda f: f[f"net.{_mac(f, 'd')}.carrier"] == "0"),
    "interface.acpi-index": ("cards", lambda f: f.get(f"net.{_mac(f, 'd')}.acpi") == "7"),
    "interface.pci-address": ("cards", lambda f: "0000:00:1b.0" in f[f"net.{_mac(f, 'e')}.path"]),
    "rng": ("disks", lambda f: "virtio_rng" in f["rng"]),
    "watchdog.i6300esb": ("disks", lambda f: "i6300ESB" in f["watchdog"]),
    "input.tablet": ("disks", lambda f: "QEMU USB Tablet" in f["inputs"]),
    "input.bus.virtio": ("disks", lambda f: "QEMU Virtio Tablet" in f["inputs"]),
    "balloon": ("disks", lambda f: "virtio.0x0005" in f),
    "sound.ich9": ("disks", lambda f: bool(_pci(f, "0x8086 0x293e"))),
    "sound.ac97": ("cards", lambda f: bool(_pci(f, "0x8086 0x2415"))),
    "panic": ("disks", lambda f: f.get("panic.acpi") == "yes"),
    "graphics": ("cards", lambda f: bool(_pci(f, "0x1af4 0x1050"))),
    "video.type": ("cards", lambda f: bool(_pci(f, "0x1af4 0x1050"))),
    "lifecycle.reboot-policy": ("bare", lambda f: f["console"].count("FACT end") == 1 and f["state"] == "shutoff"),
    "boot.disk": ("disk", lambda f: "BOOTED" in f["console"]),
    "boot.without-root": ("bare", lambda f: not [name for name in f if name.startswith("disk.")]),
    "boot.without-kernel": ("disk", lambda f: "BOOTED" in f["console"]),
    "disk.boot-order": ("disk", lambda f: "BOOTED two" in f["console"]),
    "firmware.bios": ("disk", lambda f: "SeaBIOS" in f["console"]),
    "firmware.bios.serial": ("disk", lambda f: "SeaBIOS" in f["console"]),
    "interface.boot-order": ("net", lambda f: "net0" in f["console"].partition("BOOTED")[0]),
    "lifecycle.console": ("disks", lambda f: "end" in f),
    "lifecycle.start": ("disks", lambda f: "end" in f),
}


def _lead(facts: Facts) -> int:
    """Return by how many seconds the guest's clock is ahead of this machine's."""
    return int(facts["rtc"]) - int(facts["now"])
