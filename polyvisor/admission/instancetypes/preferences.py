"""Filling in what a machine leaves open as its preference would have it; what the machine says is never touched.

Most of a preference is a table: where it stands there, and where in the instance's spec it goes.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

from polyvisor.admission import defaults
from polyvisor.admission.instancetypes import reserved
from polyvisor.admission.values import items, mapping, text
from polyvisor.api import Obj
from polyvisor.api.shapes import members

DEVICES = "domain.devices"
PLACES: tuple[tuple[str, str], ...] = (
    ("preferredHypervisor", "hypervisor"),
    ("preferredArchitecture", "architecture"),
    ("preferredSubdomain", "subdomain"),
    ("preferredTerminationGracePeriodSeconds", "terminationGracePeriodSeconds"),
    ("preferredLaunchSecurity", "domain.launchSecurity"),
    ("machine.preferredMachineType", "domain.machine.type"),
    ("clock.preferredTimer", "domain.clock.timer"),
    ("devices.preferredAutoattachGraphicsDevice", f"{DEVICES}.autoattachGraphicsDevice"),
    ("devices.preferredAutoattachMemBalloon", f"{DEVICES}.autoattachMemBalloon"),
    ("devices.preferredAutoattachPodInterface", f"{DEVICES}.autoattachPodInterface"),
    ("devices.preferredAutoattachSerialConsole", f"{DEVICES}.autoattachSerialConsole"),
    ("devices.preferredBlockMultiQueue", f"{DEVICES}.blockMultiQueue"),
    ("devices.preferredDisableHotplug", f"{DEVICES}.disableHotplug"),
    ("devices.preferredNetworkInterfaceMultiQueue", f"{DEVICES}.networkInterfaceMultiqueue"),
    ("devices.preferredRng", f"{DEVICES}.rng"),
    ("devices.preferredTPM", f"{DEVICES}.tpm"),
    ("devices.preferredUseVirtioTransitional", f"{DEVICES}.useVirtioTransitional"),
    ("devices.preferredVideoType", f"{DEVICES}.video.type"),
)
DISKS: tuple[tuple[str, str], ...] = (
    ("preferredDiskCache", "cache"),
    ("preferredDiskIO", "io"),
    ("preferredDiskBlockSize", "blockSize"),
)
BUSES = (("preferredDiskBus", "disk"), ("preferredCdromBus", "cdrom"), ("preferredLunBus", "lun"))
BINDINGS = ("bridge", "masquerade", "passtBinding", "sriov", "slirp", "macvtap", "passt", "binding")


def fill(preference: Obj, spec: Obj, annotations: Obj) -> None:
    """Fill in ``spec`` and ``annotations``, in place."""
    for here, there in (*PLACES, *_features()):
        *way, last = here.split(".")
        value = mapping(preference, *way).get(last)
        if value is not None:
            _put(spec, there, value)
    offset = mapping(preference, "clock", "preferredClockOffset")
    clock = mapping(spec, "domain", "clock")
    if offset and clock.get("utc") is None and not clock.get("timezone"):
        spec.setdefault("domain", {})["clock"] = {**clock, **copy.deepcopy(offset)}
    _cpu_features(mapping(preference, "cpu"), spec)
    _firmware(mapping(preference, "firmware"), spec)
    devices = mapping(preference, "devices")
    _disks(devices, spec)
    _interfaces(devices, spec)
    _others(devices, mapping(spec, "domain", "devices"))
    for key, value in reserved.given(preference).items():
        annotations.setdefault(key, value)


def fill_templates(preference: Obj, vm: Obj) -> None:
    """Give the templates of a machine's DataVolumes the preferred storage class, in place, where they name none."""
    wanted = mapping(preference, "volumes").get("preferredStorageClassName")
    for _, template in items(mapping(vm, "spec").get("dataVolumeTemplates") if wanted else None, ""):
        for kind in ("pvc", "storage"):
            claim = mapping(template, "spec", kind)
            if claim and not claim.get("storageClassName"):
                claim["storageClassName"] = wanted


@cache
def _features() -> tuple[tuple[str, str], ...]:
    from polyvisor.api import FeaturePreferences  # classes that most machines do not need

    known = members(FeaturePreferences)
    return tuple((f"features.{one}", f"domain.features.{one.removeprefix('preferred').lower()}") for one in known)


def _put(spec: Obj, path: str, value: Any) -> None:
    """Put a value where nothing stands yet."""
    *way, last = path.split(".")
    for key in way:
        if spec.get(key) is None:
            spec[key] = {}
        spec = spec[key]
        if not isinstance(spec, dict):
            return
    if spec.get(last) in (None, ""):
        spec[last] = copy.deepcopy(value)


def _cpu_features(cpu: Obj, spec: Obj) -> None:
    wanted = [one for _, one in items(cpu.get("preferredCPUFeatures"), "")]
    if not wanted:
        return
    _put(spec, "domain.cpu.features", [])
    given = mapping(spec, "domain", "cpu")["features"]
    known = {one.get("name") for one in given}
    given += [copy.deepcopy(one) for one in wanted if one.get("name") not in known]


def _firmware(firmware: Obj, spec: Obj) -> None:
    if mapping(spec, "domain", "firmware", "bootloader"):
        return
    loader: Obj = {}
    if mapping(firmware, "preferredEfi") or firmware.get("preferredEfi") == {}:
        loader = {"efi": firmware["preferredEfi"]}
    elif firmware.get("preferredUseEfi"):
        secure = firmware.get("preferredUseSecureBoot")
        loader = {"efi": {} if secure is None else {"secureBoot": secure}}
    elif firmware.get("preferredUseBios"):
        serial = firmware.get("preferredUseBiosSerial")
        loader = {"bios": {} if serial is None else {"useSerial": serial}}
    if loader:
        spec.setdefault("domain", {}).setdefault("firmware", {})["bootloader"] = copy.deepcopy(loader)


def _disks(devices: Obj, spec: Obj) -> None:
    defaults.disks(spec)
    for _, disk in items(mapping(spec, "domain", "devices").get("disks"), ""):
        for preferred, target in BUSES:
            if devices.get(preferred) and isinstance(disk.get(target), dict) and not disk[target].get("bus"):
                disk[target]["bus"] = devices[preferred]
        for preferred, field in DISKS:
            if devices.get(preferred) and not disk.get(field):
                disk[field] = copy.deepcopy(devices[preferred])
        threads = devices.get("preferredDiskDedicatedIoThread")
        if threads is not None and disk.get("dedicatedIOThread") is None and _bus(disk) == "virtio":
            disk["dedicatedIOThread"] = threads


def _bus(disk: Obj) -> str:
    return text(mapping(disk, "disk").get("bus"))


def _interfaces(devices: Obj, spec: Obj) -> None:
    model, masquerade = devices.get("preferredInterfaceModel"), devices.get("preferredInterfaceMasquerade")
    if not model and masquerade is None:
        return
    defaults.pod_network(spec)
    pods = {one.get("name") for _, one in items(spec.get("networks"), "") if one.get("pod") is not None}
    for _, card in items(mapping(spec, "domain", "devices").get("interfaces"), ""):
        if model and not card.get("model"):
            card["model"] = model
        if masquerade is not None and card.get("name") in pods and not any(card.get(b) is not None for b in BINDINGS):
            card["masquerade"] = copy.deepcopy(masquerade)


def _others(devices: Obj, given: Obj) -> None:
    for preferred, field in (("preferredInputBus", "bus"), ("preferredInputType", "type")):
        for _, one in items(given.get("inputs"), ""):
            if devices.get(preferred) and not one.get(field):
                one[field] = devices[preferred]
    sound = given.get("sound")
    devices_with_models = [("preferredSoundModel", sound)] if isinstance(sound, dict) else []
    devices_with_models += [("preferredPanicDeviceModel", one) for _, one in items(given.get("panicDevices"), "")]
    for preferred, device in devices_with_models:
        if devices.get(preferred) and not device.get("model"):
            device["model"] = devices[preferred]
