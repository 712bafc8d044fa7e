"""For every feature that a field can ask for, the smallest manifest that asks for it.

A feature seldom comes quite alone: a disk needs a volume, a CD-ROM with its tray open is a CD-ROM. What else an example
asks for are its *companions*; they are declared here, and a test holds that there are no others. ``EVERY`` is what no
machine can leave out. Where there is a choice (which kind of volume backs a disk, whether there is a kernel in the
manifest), :func:`example` takes what the driver at hand has, so that a refusal speaks of the one feature alone.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from polyvisor.api import Obj, VirtualMachineInstanceSpec
from polyvisor.api.reading import nested
from polyvisor.drivers.base import Driver
from polyvisor.drivers.features import BY_ID
from polyvisor.drivers.verdict import may_support
from polyvisor.testing.merging import at, merged

IMAGE = "localhost/polyvisor/demo:1"
EVERY = frozenset({"memory.guest", "boot.without-kernel"})
NO_ROOT, FURTHER = "boot.without-root", "volume.container-disk.further"
"""They follow from all of a machine's volumes, so an example may ask for them with a volume that it needs."""
PLAIN: Obj = {"domain": {"memory": {"guest": "64Mi"}, "devices": {"autoattachPodInterface": False}}}
"""A machine that asks for no more than every machine does; it joins no network."""
KERNEL = at("domain.firmware.kernelBoot.container", {"image": IMAGE, "kernelPath": "/boot/vmlinuz"})
SOURCES: Mapping[str, Obj] = {
    "volume.container-disk": {"containerDisk": {"image": IMAGE}},
    "volume.claim": {"persistentVolumeClaim": {"claimName": "claim"}},
    "volume.empty-disk": {"emptyDisk": {"capacity": "1Mi"}},
    "volume.host-disk": {"hostDisk": {"path": "/disks/disk.img", "type": "Disk"}},
}
"""What can be behind a disk, and the feature that this is; the first is taken where nothing speaks against it."""
BACKING = next(iter(SOURCES))
LASTING = "volume.claim"


@dataclass(frozen=True, slots=True)
class Example:
    """The spec of a VirtualMachineInstance that asks for a feature, and what it cannot help asking for beside it."""

    feature: str
    spec: Obj
    companions: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Sketch:
    fragment: Obj
    companions: tuple[str, ...] = ()
    backed: bool = False
    lasting: bool = False
    """Whether what backs the disk has to outlast the machine."""


def _disk(companions: Iterable[str] = (), *, lasting: bool = False, **fields: Any) -> _Sketch:
    sketch = at("domain.devices.disks", [{"name": "disk", **fields}])
    return _Sketch(sketch, tuple(companions), backed=True, lasting=lasting)


def _card(companions: Iterable[str] = ("network.pod", "interface.masquerade"), **fields: Any) -> _Sketch:
    binding: Obj = {} if {"bridge", "passtBinding", "sriov"} & fields.keys() else {"masquerade": {}}
    card = at("domain.devices.interfaces", [{"name": "default", **binding, **fields}])
    return _Sketch(merged(card, {"networks": [{"name": "default", "pod": {}}]}), tuple(companions))


def _on(path: str, value: Any, *companions: str) -> _Sketch:
    return _Sketch(at(path, value), companions)


def _device(name: str, value: Any, *companions: str) -> _Sketch:
    return _on(f"domain.devices.{name}", value, *companions)


def _volume(source: Obj) -> _Sketch:
    return _Sketch({"volumes": [{"name": "disk", **source}]})


def _multus() -> _Sketch:
    joined = at("domain.devices.interfaces", [{"name": "further", "bridge": {}}])
    network = {"networks": [{"name": "further", "multus": {"networkName": "further"}}]}
    return _Sketch(merged(joined, network), ("interface.bridge",))


def _network(**pod: Any) -> _Sketch:
    card = at("domain.devices.interfaces", [{"name": "default", "masquerade": {}}])
    networks = {"networks": [{"name": "default", "pod": pod}]}
    return _Sketch(merged(card, networks), ("network.pod", "interface.masquerade"))


_EFI = "domain.firmware.bootloader.efi"
_HYPERV = "domain.features.hyperv"
NAME = "metadata.name"
METRICS: Obj = {"name": "disk", "downwardMetrics": {}}
PLUGGED: Obj = {"volumes": [{"name": "disk", "persistentVolumeClaim": {"claimName": "claim", "hotpluggable": True}}]}
_SKETCHES: dict[str, _Sketch] = {
    "lifecycle.guest-agent": _on("readinessProbe.guestAgentPing", {}),
    "lifecycle.hotplug.disk": _Sketch(PLUGGED, ("volume.claim",)),
    "lifecycle.memory-dump": _Sketch({"volumes": [{"name": "dump", "memoryDump": {"claimName": "dump"}}]}),
    "lifecycle.start-paused": _on("startStrategy", "Paused"),
    "lifecycle.reboot-policy": _on("domain.rebootPolicy", "Terminate"),
    "boot.without-kernel": _Sketch({}),
    NO_ROOT: _Sketch({}),
    "arch.aarch64": _on("architecture", "arm64"),
    "arch.s390x": _on("architecture", "s390x"),
    "cpu.count": _on("domain.cpu.cores", 2),
    "cpu.topology": _on("domain.cpu.sockets", 2, "cpu.count"),
    "cpu.threads": _on("domain.cpu.threads", 2, "cpu.count"),
    "cpu.max-sockets": _on("domain.cpu.maxSockets", 2),
    "cpu.model.host-passthrough": _on("domain.cpu.model", "host-passthrough"),
    "cpu.model.host-model": _on("domain.cpu.model", "host-model"),
    "cpu.model.named": _on("domain.cpu.model", "Nehalem"),
    "cpu.features": _on("domain.cpu.features", [{"name": "aes"}]),
    "cpu.pinning": _on("domain.cpu.dedicatedCpuPlacement", True),
    "cpu.emulator-pinning": _on(
        "domain.cpu", {"dedicatedCpuPlacement": True, "isolateEmulatorThread": True}, "cpu.pinning"
    ),
    "cpu.numa": _on("domain.cpu.numa.guestMappingPassthrough", {}),
    "cpu.realtime": _on("domain.cpu.realtime", {}),
    "memory.guest": _Sketch({}),
    "memory.max": _on("domain.memory.maxGuest", "128Mi"),
    "memory.hugepages": _on("domain.memory.hugepages.pageSize", "2Mi"),
    "machine.type": _on("domain.machine.type", "q35"),
    "machine.version": _on("domain.machine.type", "pc-q35-7.2"),
    "features.kvm-hidden": _on("domain.features.kvm.hidden", True),
    **{f"features.{name}": _on(f"domain.features.{name}", {}) for name in ("acpi", "apic", "smm", "pvspinlock")},
    **{
        f"hyperv.{name}": _on(f"{_HYPERV}.{name}", {})
        for name in (
            *("relaxed", "vapic", "spinlocks", "vpindex", "runtime", "reset", "frequencies", "reenlightenment"),
            *("tlbflush", "ipi", "evmcs"),
        )
    },
    "hyperv.synic": _on(_HYPERV, {"synic": {}, "vpindex": {}}, "hyperv.vpindex"),
    "hyperv.synictimer": _on(_HYPERV, {"synictimer": {}, "synic": {}, "vpindex": {}}, "hyperv.synic", "hyperv.vpindex"),
    "hyperv.vendorid": _on(f"{_HYPERV}.vendorid.vendorid", "polyvisor"),
    "hyperv.passthrough": _on("domain.features.hypervPassthrough", {}),
    "firmware.uuid": _on("domain.firmware.uuid", "5d307ca9-b3ef-428c-8861-06e72d69f223"),
    "firmware.serial": _on("domain.firmware.serial", "S-1"),
    "firmware.chassis": _on("domain.chassis.manufacturer", "Maker"),
    "firmware.bios": _on("domain.firmware.bootloader.bios", {}),
    "firmware.bios.serial": _on("domain.firmware.bootloader.bios.useSerial", True, "firmware.bios"),
    "firmware.efi": _on(_EFI, {"secureBoot": False}),
    "firmware.efi.secure-boot": _on(_EFI, {}, "firmware.efi"),
    "firmware.efi.persistent": _on(_EFI, {"persistent": True, "secureBoot": False}, "firmware.efi"),
    "firmware.acpi-tables": _on("domain.firmware.acpi.slicNameRef", "slic"),
    "firmware.kernel-boot": _Sketch(KERNEL),
    "firmware.kernel-args": _Sketch(
        merged(KERNEL, at("domain.firmware.kernelBoot.kernelArgs", "quiet")), ("firmware.kernel-boot",)
    ),
    "clock.timezone": _on("domain.clock.timezone", "Europe/Berlin"),
    "clock.utc": _on("domain.clock.utc", {}),
    "clock.utc-offset": _on("domain.clock.utc.offsetSeconds", 60, "clock.utc"),
    **{f"timer.{name}": _on(f"domain.clock.timer.{name}", {}) for name in ("hpet", "kvm", "pit", "rtc", "hyperv")},
    **{f"disk.bus.{bus}": _disk(disk={"bus": bus}) for bus in ("virtio", "sata", "scsi", "usb")},
    "disk.cdrom": _disk(cdrom={}),
    "disk.cdrom.empty": _on("domain.devices.disks", [{"name": "drive", "cdrom": {}}], "disk.cdrom"),
    "disk.cdrom.tray": _disk(["disk.cdrom"], cdrom={"tray": "open"}),
    "disk.lun": _disk(lasting=True, lun={}),
    "disk.lun.reservation": _disk(["disk.lun"], lasting=True, lun={"reservation": True}),
    "disk.readonly": _disk(disk={"readonly": True}),
    "disk.readonly.sata": _disk(["disk.readonly", "disk.bus.sata"], disk={"readonly": True, "bus": "sata"}),
    "disk.serial": _disk(serial="S-1"),
    **{f"disk.cache.{mode}": _disk(cache=mode) for mode in ("none", "writethrough", "writeback")},
    "disk.io": _disk(io="threads"),
    "disk.boot-order": _disk(bootOrder=1),
    "disk.shareable": _disk(lasting=True, shareable=True),
    "disk.error-policy": _disk(errorPolicy="stop"),
    "disk.block-size": _disk(blockSize={"custom": {"logical": 4096, "physical": 4096}}),
    "disk.discard-granularity": _disk(
        ["disk.block-size"], blockSize={"custom": {"logical": 512, "physical": 512, "discardGranularity": 4096}}
    ),
    "disk.rotation-rate": _disk(["disk.bus.scsi"], disk={"bus": "scsi", "rotationRate": 1}),
    "disk.pci-address": _disk(disk={"pciAddress": "0000:00:1a.0"}),
    "disk.io-thread": _disk(dedicatedIOThread=True),
    "disk.io-threads-policy": _on("domain.ioThreadsPolicy", "auto"),
    "disk.multiqueue": _device("blockMultiQueue", True),
    **{id_: _volume(source) for id_, source in SOURCES.items()},
    FURTHER: _Sketch({"volumes": [{"name": name, **SOURCES[BACKING]} for name in ("disk", "further")]}, (BACKING,)),
    "volume.data-volume": _volume({"dataVolume": {"name": "data"}}),
    "volume.ephemeral": _volume({"ephemeral": {"persistentVolumeClaim": {"claimName": "data"}}}),
    "volume.cloud-init": _volume({"cloudInitNoCloud": {"userData": "#cloud-config\n"}}),
    "volume.config-drive": _volume({"cloudInitConfigDrive": {"userData": "#cloud-config\n"}}),
    "volume.config-map": _volume({"configMap": {"name": "texts"}}),
    "volume.secret": _volume({"secret": {"secretName": "words"}}),
    "volume.service-account": _volume({"serviceAccount": {"serviceAccountName": "worker"}}),
    "volume.downward-api": _volume({"downwardAPI": {"fields": [{"path": "n", "fieldRef": {"fieldPath": NAME}}]}}),
    "volume.sysprep": _volume({"sysprep": {"configMap": {"name": "answers"}}}),
    "filesystem.virtiofs": _Sketch(
        at("domain.devices.filesystems", [{"name": "disk", "virtiofs": {}}]), backed=True, lasting=True
    ),
    "network.pod": _card(["interface.masquerade"]),
    "network.pod.cidr": _network(vmNetworkCIDR="10.11.12.0/24"),
    "network.multus": _multus(),
    "interface.masquerade": _card(["network.pod"]),
    "interface.bridge": _card(["network.pod"], bridge={}),
    "interface.passt": _card(["network.pod"], passtBinding={}),
    "interface.sriov": _card(["network.pod"], sriov={}),
    **{
        f"interface.model.{model}": _card(model=model)
        for model in ("virtio", "e1000", "e1000e", "igb", "ne2k_pci", "pcnet", "rtl8139")
    },
    "interface.multiqueue": _device("networkInterfaceMultiqueue", True),
    "interface.mac": _card(macAddress="02:00:00:00:00:01"),
    "interface.pci-address": _card(pciAddress="0000:00:1b.0"),
    "interface.acpi-index": _card(acpiIndex=1),
    "interface.boot-order": _card(bootOrder=1),
    "interface.dhcp-options": _card(dhcpOptions={"bootFileName": "boot"}),
    "interface.ports": _card(ports=[{"port": 22}]),
    "interface.link-down": _card(state="down"),
    "interface.absent": _card(state="absent"),
    "console.none": _device("autoattachSerialConsole", False),
    "rng": _device("rng", {}),
    "watchdog.i6300esb": _device("watchdog", {"name": "dog", "i6300esb": {}}),
    "watchdog.diag288": _device("watchdog", {"name": "dog", "diag288": {}}),
    "input.tablet": _device("inputs", [{"name": "tablet", "type": "tablet"}]),
    "input.bus.virtio": _device("inputs", [{"name": "tablet", "type": "tablet", "bus": "virtio"}], "input.tablet"),
    "graphics": _device("autoattachGraphicsDevice", True),
    "video.type": _device("video.type", "vga"),
    "video.qxl": _device("video.type", "qxl", "video.type"),
    "sound.ich9": _device("sound", {"name": "sound"}),
    "sound.ac97": _device("sound", {"name": "sound", "model": "ac97"}),
    "balloon": _device("autoattachMemBalloon", True),
    "tpm": _device("tpm", {}),
    "tpm.persistent": _device("tpm.persistent", True, "tpm"),
    "vsock": _device("autoattachVSOCK", True),
    "panic": _device("panicDevices", [{}]),
    "panic.pvpanic": _device("panicDevices", [{"model": "pvpanic"}], "panic"),
    "downward-metrics": _device("downwardMetrics", {}),
    "downward-metrics.disk": _Sketch(
        merged(at("domain.devices.disks", [{"name": "disk", "disk": {}}]), {"volumes": [METRICS]})
    ),
    "virtio-transitional": _device("useVirtioTransitional", True),
    "usb-redirection": _device("clientPassthrough", {}),
    "passthrough.pci": _device("hostDevices", [{"name": "device", "deviceName": "example.org/device"}]),
    "passthrough.gpu": _device("gpus", [{"name": "gpu", "deviceName": "example.org/gpu"}]),
    **{f"launch-security.{name}": _on(f"domain.launchSecurity.{name}", {}) for name in ("sev", "snp", "tdx")},
}

IDS: tuple[str, ...] = tuple(_SKETCHES)
"""The features that have an example."""


def has(driver: Driver, *features: str) -> bool:
    """Whether a driver's table supports all of the features, be it under a condition."""
    return all(may_support(driver, id_) for id_ in features)


def needs_kernel(driver: Driver) -> bool:
    """Whether a driver's machines must bring a kernel."""
    return not has(driver, "boot.without-kernel")


def backing(driver: Driver) -> str:
    """Return the kind of volume that a driver has behind a disk, as its feature."""
    return next((id_ for id_ in SOURCES if has(driver, id_)), BACKING)


def example(feature: str, driver: Driver | None = None) -> Example:
    """Return the smallest machine that asks for a feature; with a driver, as fits it best."""
    sketch = _SKETCHES[feature]
    behind = LASTING if sketch.lasting else backing(driver) if driver else BACKING
    parts, companions = [PLAIN], {*EVERY, *sketch.companions}
    if driver and needs_kernel(driver) and feature != "boot.without-kernel":
        parts.append(KERNEL)
        companions |= {"firmware.kernel-boot"}
    if sketch.backed:
        parts.append({"volumes": [{"name": "disk", **SOURCES[behind]}]})
        companions |= {behind}
    spec = merged(*parts, sketch.fragment)
    if nested(spec["domain"], "firmware").get("kernelBoot"):
        companions -= {"boot.without-kernel"}
    if driver and feature != NO_ROOT and without_root(spec) and not has(driver, NO_ROOT):
        spec = merged({"volumes": [{"name": "boot", **numbered(SOURCES[behind], "boot")}]}, spec)
        companions |= {behind}
    parsed = VirtualMachineInstanceSpec.model_validate(spec)
    companions |= {id_ for id_ in (NO_ROOT, FURTHER) if BY_ID[id_].paths(parsed)}
    return Example(feature, spec, frozenset(companions - {feature}))


def without_root(spec: Obj) -> bool:
    """Whether a machine has no root volume."""
    return bool(BY_ID[NO_ROOT].paths(VirtualMachineInstanceSpec.model_validate(spec)))


def numbered(source: Obj, number: int | str) -> Obj:
    """Return a volume's source with a claim or file of its own, so that several stand side by side."""
    copied = copy.deepcopy(source)
    for kind, key in (("persistentVolumeClaim", "claimName"), ("hostDisk", "path")):
        if kind in copied:
            copied[kind][key] += f"-{number}"
    return copied
