"""Writing an instance type into the spec of an instance, and which of the instance's own fields stand in its way."""

from __future__ import annotations

import copy
import struct
from collections.abc import Iterator

from polyvisor.admission.instancetypes import reserved
from polyvisor.admission.instancetypes.cpu import topology
from polyvisor.admission.values import amount, mapping, number
from polyvisor.api import Obj
from polyvisor.api.quantity import format_quantity

SIZES = ("sockets", "cores", "threads")
SAME_CPU = ("model", "dedicatedCPUPlacement", "isolateEmulatorThread", "numa", "realtime", "maxSockets")
SAME_MEMORY = ("guest", "hugepages", "maxGuest")
SAME_DOMAIN = ("ioThreads", "ioThreadsPolicy", "launchSecurity")
SAME_DEVICES = ("gpus", "hostDevices")
SAME_SPEC = ("nodeSelector", "schedulerName")


def conflicts(given: Obj, spec: Obj, annotations: Obj) -> Iterator[str]:
    """Yield the paths, below the template, of what the machine says although its instance type ``given`` says it."""
    domain = mapping(spec, "domain")
    for key in SIZES:
        if mapping(domain, "cpu").get(key):
            yield f"spec.domain.cpu.{key}"
    for part, same in (("cpu", SAME_CPU), ("memory", SAME_MEMORY)):
        for key in same:
            if _set(mapping(given, part), key) and _set(mapping(domain, part), key):
                yield f"spec.domain.{part}.{key}"
    for kind in ("requests", "limits"):
        for resource in ("cpu", "memory"):
            if mapping(domain, "resources", kind).get(resource) is not None:
                yield f"spec.domain.resources.{kind}.{resource}"
    parts: tuple[tuple[str, tuple[str, ...], Obj], ...] = (
        ("spec.domain", SAME_DOMAIN, domain),
        ("spec.domain.devices", SAME_DEVICES, mapping(domain, "devices")),
        ("spec", SAME_SPEC, spec),
    )
    for where, keys, here in parts:
        for key in keys:
            if _set(given, key) and _set(here, key):
                yield f"{where}.{key}"
    for key, value in reserved.given(given).items():
        if annotations.get(key, value) != value:
            yield f"metadata.annotations[{key}]"


def _set(value: Obj, key: str) -> bool:
    """Whether a field says anything."""
    return value.get(key) not in (None, False, "", 0, "0", [], {})


def _single(value: float) -> float:
    """Round to a float of 32 bits, in which KubeVirt reckons; others compare what comes out byte by byte."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def apply(given: Obj, preference: Obj, spec: Obj, annotations: Obj) -> None:
    """Write the instance type ``given`` into ``spec`` and ``annotations``, in place; there are no conflicts."""
    domain = spec.setdefault("domain", {})
    cpu, memory = domain.setdefault("cpu", {}), domain.setdefault("memory", {})
    shown = topology(number(mapping(given, "cpu").get("guest")) or 1, preference)
    cpu.update(sockets=shown.sockets, cores=shown.cores, threads=shown.threads)
    for part, keys, here in (
        (mapping(given, "cpu"), SAME_CPU, cpu),
        (mapping(given, "memory"), SAME_MEMORY, memory),
        (given, SAME_DOMAIN, domain),
        (given, SAME_SPEC, spec),
    ):
        here.update({key: copy.deepcopy(part[key]) for key in keys if _set(part, key)})
    for key in SAME_DEVICES:
        if _set(given, key):
            domain.setdefault("devices", {})[key] = copy.deepcopy(given[key])
    overcommit = number(mapping(given, "memory").get("overcommitPercent"))
    guest = amount(mapping(given, "memory").get("guest"))
    if overcommit and guest is not None:
        asked = int(_single(_single(int(guest)) * _single(1 - _single(overcommit / 100))))
        domain.setdefault("resources", {}).setdefault("requests", {})["memory"] = format_quantity(asked)
    annotations.update(reserved.given(given))
