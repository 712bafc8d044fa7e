"""The machines that show QEMU's features: each asks for as much as can stand side by side, for a boot costs seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from polyvisor.testing.merging import at, merged

UUID = "5d307ca9-b3ef-428c-8861-06e72d69f223"
MIB = 1024
KERNEL = {"image": "k", "kernelPath": "/vmlinuz", "initrdPath": "/initrd"}
OFFSET = 3600
NODE = "node-1"
"""The host's name to the guest that asks for its metrics."""
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
                    | {"blockSize": {"custom": {"logical": 4096, "physical": 4096, "discardGranularity": 65536}}}
                    | {"dedicatedIOThread": True},
                    {"name": "r", "disk": {"bus": "virtio", "readonly": True, "pciAddress": "0000:00:1a.0"}},
                    {"name": "s", "disk": {"bus": "scsi", "rotationRate": 1}, "cache": "writeback"},
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
    "old": Guest(
        {
            "memory": {"guest": "160Mi"},
            "devices": {
                "disks": [_disk("o", "virtio"), _disk("p", "scsi"), _disk("m", "virtio")],
                "interfaces": [{"name": "default", "masquerade": {}}],
                "useVirtioTransitional": True,
                "downwardMetrics": {},
                "rng": {},
            },
        },
        _content(*"op"),
        spec={"networks": [{"name": "default", "pod": {}}]},
        args="await=sda",
        volumes=({"name": "m", "downwardMetrics": {}},),
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
CROWDS["old"] = Guest(
    merged(_crowd("q35"), at("devices.useVirtioTransitional", True)), _content(*CROWD), args="await=sdan brief"
)
"""Machines with more disks than one controller of libvirt's own choice takes."""
