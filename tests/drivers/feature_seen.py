"""Of each feature, in which machine's report (:mod:`tests.drivers.feature_machines`) it shows, and how."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.drivers.feature_guest import Facts
from tests.drivers.feature_machines import MIB, NODE, OFFSET, UUID


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
    "disk.discard-granularity": ("disks", _of("v", "granularity", "^65536$")),
    "disk.rotation-rate": ("disks", _of("s", "rotational", "^0$")),
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
    "virtio-transitional": (
        "old",
        lambda f: (
            all(_pci(f, f"0x1af4 {kind}") for kind in ("0x1000", "0x1001", "0x1002", "0x1003", "0x1004", "0x1005"))
            and bool(_by_start(f, "o") and _by_start(f, "p"))
        ),
    ),
    "downward-metrics": (
        "old",
        lambda f: f["host.HostName"] == NODE and int(f["host.FreePhysicalMemory"]) > 0 and "host.TotalCPUTime" in f,
    ),
    "downward-metrics.disk": ("old", lambda f: f["metrics.disk"] == NODE and f["metrics.readonly"] == "1"),
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
