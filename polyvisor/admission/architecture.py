"""``architectureConfiguration``: which architecture and machine type a machine has that names none, and which it may.

A machine type is filled in only where every driver that may run the machine has machine types. The older settings
``machineType`` and ``emulatedMachines``, for all architectures, come first, as in KubeVirt.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from polyvisor.admission import hypervisor
from polyvisor.admission.values import Findings, listed, mapping, text, texts
from polyvisor.api import Obj
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.verdict import may_support

ARCHITECTURES = ("amd64", "arm64", "s390x")


def fill(spec: Obj, configuration: Obj, drivers: DriverRegistry) -> None:
    """Fill in what an instance's spec leaves open."""
    default = text(mapping(configuration, "architectureConfiguration").get("defaultArchitecture"))
    if default and not spec.get("architecture"):
        spec["architecture"] = default
    kind = text(configuration.get("machineType")) or text(_of(spec, configuration).get("machineType"))
    domain = spec.get("domain")
    if not kind or not isinstance(domain, dict):
        return
    machine = domain.get("machine") or {}
    if isinstance(machine, dict) and not machine.get("type") and _have_types(spec, configuration, drivers):
        domain["machine"] = {**machine, "type": kind}


def validate(spec: Obj, path: str, configuration: Obj, found: Findings) -> None:
    """Refuse a machine type that the administrator does not allow."""
    kind = text(mapping(spec, "domain", "machine").get("type"))
    allowed = texts(configuration.get("emulatedMachines")) or texts(_of(spec, configuration).get("emulatedMachines"))
    if kind and allowed and not any(fnmatchcase(kind, one) for one in allowed):
        message = f"{kind[:64]!r} is not allowed in this cluster; allowed: {listed(allowed)}"
        found.add(f"{path}.domain.machine.type", message, "FieldValueNotSupported")


def validate_default(configuration: Obj, found: Findings) -> None:
    """Check ``defaultArchitecture`` of the KubeVirt object."""
    given = mapping(configuration, "architectureConfiguration").get("defaultArchitecture")
    if given and given not in ARCHITECTURES:
        message = f"found {text(given)[:32]!r}, accepted: {', '.join(ARCHITECTURES)}"
        path = "spec.configuration.architectureConfiguration.defaultArchitecture"
        found.add(path, message, "FieldValueNotSupported")


def _of(spec: Obj, configuration: Obj) -> Obj:
    return mapping(configuration, "architectureConfiguration", text(spec.get("architecture")) or ARCHITECTURES[0])


def _have_types(spec: Obj, configuration: Obj, drivers: DriverRegistry) -> bool:
    allowed = hypervisor.allowed(spec, configuration, drivers)
    return bool(allowed) and all(may_support(one, "machine.type") for one in allowed)
