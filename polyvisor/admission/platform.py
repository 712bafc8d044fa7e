"""Rules for what a platform shows and how devices sit on it: enlightenments, CPU features, addresses, I/O threads."""

from __future__ import annotations

import re

from polyvisor.admission.values import Findings, items, mapping, number, text
from polyvisor.api import Obj
from polyvisor.drivers.enlightenments import flaws

POLICIES = ("force", "require", "optional", "disable", "forbid")
THREADS = ("shared", "auto")
BLOCK_SIZES = (512, 1024, 2048, 4096)
MAX_GRANULARITY = 2**31 - 512
SOLID_STATE, SLOWEST, FASTEST = 1, 1025, 65534
"""Rotation rates of disks, as ATA and SCSI count them."""
_PCI = re.compile(r"[0-9a-fA-F]{4}:[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7]")
_WORD = re.compile(r"[A-Za-z0-9_.+-]{1,64}")


def validate(spec: Obj, path: str, found: Findings) -> None:
    """Check the platform of an instance's spec."""
    domain, path = mapping(spec, "domain"), f"{path}.domain"
    _cpu(domain, f"{path}.cpu", found)
    for field, message, missing in flaws(mapping(domain, "features")):
        found.add(f"{path}.features.{field}", message, "FieldValueRequired" if missing else "FieldValueInvalid")
    threads = domain.get("ioThreadsPolicy")
    if isinstance(threads, str) and threads not in THREADS:
        message = f"{threads[:40]!r} is not implemented by Polyvisor yet; accepted: {', '.join(THREADS)}"
        found.add(f"{path}.ioThreadsPolicy", message, "FieldValueNotSupported")
    if domain.get("ioThreads") is not None:
        message = "a pool of I/O threads is not implemented by Polyvisor yet; use ioThreadsPolicy auto"
        found.add(f"{path}.ioThreads", message, "FieldValueNotSupported")
    devices, path = mapping(domain, "devices"), f"{path}.devices"
    video = text(mapping(devices, "video").get("type"))
    if video and not _WORD.fullmatch(video):
        found.add(f"{path}.video.type", f"{video[:80]!r} is no type of graphics card such as vga or virtio")
    for where, disk in items(devices.get("disks"), f"{path}.disks"):
        _pci(mapping(disk, "disk"), f"{where}.disk", found)
        _block_size(mapping(disk, "blockSize"), f"{where}.blockSize", found)
        rate = number(mapping(disk, "disk").get("rotationRate"))
        if rate is not None and rate != SOLID_STATE and not SLOWEST <= rate <= FASTEST:
            message = f"found {rate}; accepted: {SOLID_STATE} (an SSD), and {SLOWEST} to {FASTEST} turns a minute"
            found.add(f"{where}.disk.rotationRate", message)
    for where, interface in items(devices.get("interfaces"), f"{path}.interfaces"):
        _pci(interface, where, found)
        index = number(interface.get("acpiIndex"))
        if index is not None and not 1 <= index <= 16383:
            found.add(f"{where}.acpiIndex", f"found {index}; 1 to 16383 are accepted")


def _cpu(domain: Obj, path: str, found: Findings) -> None:
    cpu = mapping(domain, "cpu")
    seen: dict[str, str] = {}
    for where, feature in items(cpu.get("features"), f"{path}.features"):
        name, policy = text(feature.get("name")), feature.get("policy")
        if name and not _WORD.fullmatch(name):
            found.add(f"{where}.name", f"{name[:80]!r} is no CPU feature such as vmx")
        elif name and seen.setdefault(name, where) != where:
            found.duplicate(f"{where}.name", f"{name} is {seen[name]} already")
        if isinstance(policy, str) and policy and policy not in POLICIES:
            message = f"found {policy[:40]!r}; accepted: {', '.join(POLICIES)}"
            found.add(f"{where}.policy", message, "FieldValueNotSupported")
    most, now = number(cpu.get("maxSockets")), number(cpu.get("sockets")) or 1
    if most is not None and most < now:
        found.add(f"{path}.maxSockets", f"found {most}; it cannot be less than sockets, {now}")


def _pci(device: Obj, path: str, found: Findings) -> None:
    address = text(device.get("pciAddress"))
    if address and not _PCI.fullmatch(address):
        found.add(f"{path}.pciAddress", f"{address[:80]!r} is no PCI address such as 0000:81:01.0")


def _block_size(given: Obj, path: str, found: Findings) -> None:
    custom = mapping(given, "custom")
    matched = given.get("matchVolume") is not None and mapping(given, "matchVolume").get("enabled") is not False
    if given.get("custom") is not None and matched:
        found.add(f"{path}.matchVolume", "custom and matchVolume exclude each other; give one")
    for name in ("logical", "physical"):
        size = number(custom.get(name))
        if size is not None and size not in BLOCK_SIZES:
            found.add(f"{path}.custom.{name}", f"found {size}; accepted: {', '.join(map(str, BLOCK_SIZES))}")
    granularity, step = number(custom.get("discardGranularity")), number(custom.get("logical")) or 512
    if granularity is not None and (not 0 <= granularity <= MAX_GRANULARITY or granularity % step):
        message = f"found {granularity}; accepted: 0 (none at all), and multiples of {step} up to {MAX_GRANULARITY}"
        found.add(f"{path}.custom.discardGranularity", message)
    logical, physical = number(custom.get("logical")), number(custom.get("physical"))
    if logical is not None and physical is not None and logical > physical:
        found.add(f"{path}.custom.logical", f"found {logical}; it cannot be more than physical, {physical}")
