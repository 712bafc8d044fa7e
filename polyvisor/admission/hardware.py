"""Rules for CPU, memory, resources and firmware, and for what boots first."""

from __future__ import annotations

import re
import uuid
from decimal import Decimal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from polyvisor.admission import exclusive
from polyvisor.admission.paths import absolute_path_error, image_error
from polyvisor.admission.values import Findings, amount, items, mapping, number, text
from polyvisor.api import Obj, nearest
from polyvisor.api.quantity import format_quantity

MIB = 1 << 20
MAX_VCPUS = 1024
MAX_MEMORY = 1 << 60
MAX_KERNEL_ARGS = 4096
WATCHDOGS = ("i6300esb", "diag288")
RESOURCES = ("cpu", "memory", "ephemeral-storage")
_SERIAL = re.compile(r"[A-Za-z0-9_.+-]{1,256}")
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,3}")
_MODEL = re.compile(r"[A-Za-z0-9_.+:-]{1,128}")


def validate(spec: Obj, path: str, found: Findings) -> None:
    """Check the hardware of an instance's spec, disks and networks aside."""
    domain, path = mapping(spec, "domain"), f"{path}.domain"
    _cpu(domain, path, found)
    _memory(domain, path, found)
    _added_overhead(domain, path, found)
    exclusive.validate(domain, path, found)
    _resources(domain, path, found)
    _firmware(domain, path, found)
    _boot_order(domain, path, found)
    _clock(mapping(domain, "clock"), f"{path}.clock", found)
    watchdog, where = mapping(domain, "devices", "watchdog"), f"{path}.devices.watchdog"
    if watchdog and sum(watchdog.get(kind) is not None for kind in WATCHDOGS) != 1:
        found.required(where, f"one of {', '.join(WATCHDOGS)} is wanted")
    machine = text(mapping(domain, "machine").get("type"))
    if machine and not _MODEL.fullmatch(machine):
        found.add(f"{path}.machine.type", f"{machine[:80]!r} is no machine type such as q35")


def _clock(clock: Obj, path: str, found: Findings) -> None:
    zone = text(clock.get("timezone"))
    if zone and (not _ZONE.fullmatch(zone) or not _known(zone)):
        near = nearest(zone, available_timezones()) if len(zone) < 64 else ""
        hint = f"; did you mean {near}?" if near else ""
        found.add(f"{path}.timezone", f"{zone[:80]!r} is no time zone such as Europe/Berlin{hint}")
    if zone and clock.get("utc") is not None:
        found.add(path, "timezone and utc exclude each other; give one")


def _known(zone: str) -> bool:
    """Whether the time zone exists; where there is no list of them (package tzdata) nobody can tell."""
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, OSError, ValueError):
        return not available_timezones()
    return True


def _cpu(domain: Obj, path: str, found: Findings) -> None:
    cpu, total = mapping(domain, "cpu"), 1
    for key in ("sockets", "cores", "threads"):
        value = number(cpu.get(key))
        if value is not None and value < 0:
            found.add(f"{path}.cpu.{key}", f"found {value}; 1 or more are accepted")
        total *= max(value or 1, 1)
    if total > MAX_VCPUS:
        found.add(f"{path}.cpu", f"sockets x cores x threads make {total} CPUs; at most {MAX_VCPUS} are accepted")
    model = text(cpu.get("model"))
    if model and not _MODEL.fullmatch(model):
        found.add(f"{path}.cpu.model", f"{model[:80]!r} is no CPU model; host-model, host-passthrough or a name")


def _memory(domain: Obj, path: str, found: Findings) -> None:
    guest = amount(mapping(domain, "memory").get("guest"))
    requested = amount(mapping(domain, "resources", "requests").get("memory"))
    limit = amount(mapping(domain, "resources", "limits").get("memory"))
    if mapping(domain, "memory").get("guest") is None and requested is None and limit is None:
        message = "required; the guest's memory such as 512Mi (resources.requests.memory is accepted, too)"
        found.required(f"{path}.memory.guest", message)
    if guest is not None:
        _memory_size(guest, f"{path}.memory.guest", found)
    elif requested is not None:
        _memory_size(requested, f"{path}.resources.requests.memory", found)
    if guest is not None and limit is not None and guest > limit:
        message = (
            f"{format_quantity(guest)} is more than the limit of {format_quantity(limit)} in resources.limits.memory"
        )
        found.add(f"{path}.memory.guest", message)


def _added_overhead(domain: Obj, path: str, found: Findings) -> None:
    given = mapping(domain, "memory", "reservedOverhead").get("addedOverhead")
    added = amount(given)
    if added is not None and not 0 <= added <= MAX_MEMORY:
        where = f"{path}.memory.reservedOverhead.addedOverhead"
        found.add(where, f"found {format_quantity(added)}; 0 to {format_quantity(MAX_MEMORY)} are accepted")


def _memory_size(size: int | Decimal, path: str, found: Findings) -> None:
    if size != int(size) and size < MIB:
        found.add(path, f"{format_quantity(size)} is a fraction of a byte ('m' is a thousandth; Mi are mebibytes)")
    elif not MIB <= size <= MAX_MEMORY:
        hint = f"; did you mean {size}Mi?" if 0 < size < MIB else ""
        found.add(path, f"found {format_quantity(size)}; 1Mi to {format_quantity(MAX_MEMORY)} are accepted{hint}")


def _resources(domain: Obj, path: str, found: Findings) -> None:
    requests, limits = (mapping(domain, "resources", kind) for kind in ("requests", "limits"))
    for kind, amounts in (("requests", requests), ("limits", limits)):
        for name, value in amounts.items():
            where = f"{path}.resources.{kind}[{str(name)[:80]}]"
            size = amount(value)
            if name not in RESOURCES:
                message = (
                    f"resource {str(name)[:80]!r} is not implemented by Polyvisor yet; known: {', '.join(RESOURCES)}"
                )
                found.add(where, message, "FieldValueNotSupported")
            elif size is not None and size < 0:
                found.add(where, f"found {format_quantity(size)}; nothing below 0 is accepted")
    for name in RESOURCES:
        low, high = amount(requests.get(name)), amount(limits.get(name))
        if low is not None and high is not None and low > high:
            message = f"{format_quantity(low)} is more than the limit of {format_quantity(high)}"
            found.add(f"{path}.resources.requests[{name}]", message)


def _firmware(domain: Obj, path: str, found: Findings) -> None:
    firmware, path = mapping(domain, "firmware"), f"{path}.firmware"
    identity = text(firmware.get("uuid"))
    if identity:
        try:
            valid = str(uuid.UUID(identity)) == identity.lower()
        except ValueError:
            valid = False
        if not valid:
            message = f"{identity[:60]!r} is no UUID such as 5d307ca9-b3ef-428c-8861-06e72d69f223"
            found.add(f"{path}.uuid", message)
    serial = text(firmware.get("serial"))
    if serial and not _SERIAL.fullmatch(serial):
        found.add(f"{path}.serial", "letters, digits and '_.+-' are accepted, at most 256")
    loader = mapping(firmware, "bootloader")
    if loader.get("bios") is not None and loader.get("efi") is not None:
        found.add(f"{path}.bootloader", "bios and efi exclude each other; give one")
    _kernel(mapping(firmware, "kernelBoot"), f"{path}.kernelBoot", found)


def _kernel(kernel: Obj, path: str, found: Findings) -> None:
    if not kernel:
        return
    arguments = text(kernel.get("kernelArgs"))
    if len(arguments) > MAX_KERNEL_ARGS:
        message = f"is {len(arguments)} characters long; at most {MAX_KERNEL_ARGS} are accepted"
        found.add(f"{path}.kernelArgs", message)
    container = mapping(kernel, "container")
    if not container:
        if arguments:
            found.required(f"{path}.container", "required with kernelArgs: the image that holds the kernel")
        return
    if isinstance(container.get("image"), str) and (error := image_error(container["image"])):
        found.add(f"{path}.container.image", error)
    given = [key for key in ("kernelPath", "initrdPath") if container.get(key)]
    if "kernelPath" not in given:
        found.required(
            f"{path}.container.kernelPath", "required: the place of the kernel in the image, such as /boot/vmlinuz"
        )
    for key in given:
        if text(container[key]) and (error := absolute_path_error(container[key])):
            found.add(f"{path}.container.{key}", error)


def _boot_order(domain: Obj, path: str, found: Findings) -> None:
    taken: dict[int, str] = {}
    for kind in ("disks", "interfaces"):
        for where, device in items(mapping(domain, "devices").get(kind), f"{path}.devices.{kind}"):
            order = number(device.get("bootOrder"))
            if order is not None and taken.setdefault(order, where) != where:
                found.duplicate(f"{where}.bootOrder", f"{order} is the boot order of {taken[order]} already")
