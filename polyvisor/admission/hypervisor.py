"""Which drivers may run a machine, and what each of them lacks for it.

A machine that names its driver is refused with one cause for each feature that the driver does not have; one that
leaves the choice open is refused only when no driver is left. What a driver's table does not know counts as lacking.
Whether a node really has the driver is not asked here: that changes with time, and placement explains it in status.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from polyvisor.admission.values import Findings, mapping, text, texts
from polyvisor.api import Obj, Problem, VirtualMachineInstanceSpec, nearest
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.base import Driver
from polyvisor.drivers.verdict import unsupported


@dataclass(frozen=True, slots=True)
class Lack:
    """A feature that a machine asks for and a driver does not have."""

    fields: tuple[str, ...]
    feature: str
    message: str


def enabled(configuration: Obj, drivers: DriverRegistry) -> list[Driver]:
    """Return the drivers that the configuration enables, best first; all of them if it names none."""
    listed = configuration.get("hypervisors")
    names = [text(item.get("name")) for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    if not names:
        return list(drivers)
    found = [driver for name in names if (driver := by_name_or_alias(name, drivers)) is not None]
    return list(dict.fromkeys(found))


def by_name_or_alias(name: str, drivers: DriverRegistry) -> Driver | None:
    """Return the driver that a configuration means by ``name``."""
    return next((driver for driver in drivers if name == driver.name or name in driver.aliases), None)


def unknown_driver(name: str, drivers: DriverRegistry) -> str:
    """Return the message for a driver that does not exist."""
    meant = by_name_or_alias(name, drivers)
    names = list(drivers.names())
    if meant is not None:
        return f"{name} is driver {meant.name} with virtType {meant.aliases[name]}; write those two"
    near = nearest(name, names) if len(name) < 64 else ""
    hint = f"; did you mean {near}?" if near else ""
    return f"no driver has the name {name[:64]!r}; known: {', '.join(names)}{hint}"


def lacks(driver: Driver, spec: VirtualMachineInstanceSpec, virt_type: str = "") -> list[Lack]:
    """Return what ``spec`` asks for and ``driver`` does not have, each feature once."""
    found: dict[str, Lack] = {}
    for feature, field, support in unsupported(driver, spec, virt_type or None):
        if feature.id in found:
            before = found[feature.id]
            found[feature.id] = Lack((*before.fields, field), feature.id, before.message)
            continue
        reason = support.reason or f"needs virtType {' or '.join(support.virt_types)}"
        source = f" ({support.source})" if support.source else ""
        found[feature.id] = Lack((field,), feature.id, f"{feature.title} with {driver.title}: {reason}{source}")
    return list(found.values())


def usable(spec: Obj, configuration: Obj, drivers: DriverRegistry) -> bool:
    """Return whether some allowed driver has everything that ``spec`` asks for; true for a spec that is malformed."""
    try:
        parsed = VirtualMachineInstanceSpec.model_validate(spec)
    except ValidationError:
        return True
    virt_type = text(mapping(spec, "hypervisor").get("virtType"))
    allowed = _allowed(spec, configuration, drivers)
    return not allowed or not all(lacks(driver, parsed, virt_type) for driver in allowed)


def validate(spec: Obj, path: str, configuration: Obj, drivers: DriverRegistry, found: Findings) -> None:
    """Check ``spec.hypervisor``, and every allowed driver against what the machine asks for."""
    before = len(found.problems)
    _choice(mapping(spec, "hypervisor"), f"{path}.hypervisor", drivers, found)
    if len(found.problems) > before:
        return
    try:
        parsed = VirtualMachineInstanceSpec.model_validate(spec)
    except ValidationError:
        return
    allowed = _allowed(spec, configuration, drivers)
    on = enabled(configuration, drivers)
    for driver in allowed:
        if driver not in on:
            found.warnings.append(f"{path}.hypervisor: driver {driver.name} is not enabled in this cluster")
    virt_type = text(mapping(spec, "hypervisor").get("virtType"))
    verdicts = {driver.name: lacks(driver, parsed, virt_type) for driver in allowed}
    if not allowed or not all(verdicts.values()):
        return
    others = [d.name for d in drivers if d.name not in verdicts and not lacks(d, parsed, virt_type)]
    found.problems += _refusals(path, verdicts, others)


def _allowed(spec: Obj, configuration: Obj, drivers: DriverRegistry) -> list[Driver]:
    choice = mapping(spec, "hypervisor")
    wanted = [text(choice["driver"])] if text(choice.get("driver")) else texts(choice.get("anyOf"))
    if wanted:
        found = [driver for name in wanted if (driver := drivers.get(name)) is not None]
    else:
        found = enabled(configuration, drivers)
    virt_type = text(choice.get("virtType"))
    return [driver for driver in found if not virt_type or virt_type in driver.virt_types]


def _refusals(path: str, verdicts: dict[str, list[Lack]], others: list[str]) -> Iterator[Problem]:
    hint = f"; {' or '.join(others)} would do" if others else "; no other driver would do" if len(verdicts) == 1 else ""
    for lacking in verdicts.values():
        for lack in lacking:
            field = _full(path, lack.fields[0])
            more = f" (also {', '.join(_full(path, f) for f in lack.fields[1:4])})" if len(lack.fields) > 1 else ""
            yield Problem(field, f"{lack.message}{more}{hint}", "FieldValueNotSupported", lack.feature)


def _full(path: str, field: str) -> str:
    return field if not field.startswith("spec.") else path + field.removeprefix("spec")


def _choice(choice: Obj, path: str, drivers: DriverRegistry, found: Findings) -> None:
    driver, any_of, virt_type = choice.get("driver"), choice.get("anyOf"), text(choice.get("virtType"))
    if driver is not None and any_of is not None:
        found.add(f"{path}.anyOf", "driver and anyOf exclude each other; give one")
    if driver == "":
        found.required(f"{path}.driver", f"required if given; known: {', '.join(drivers.names())}")
    if any_of == []:
        found.required(f"{path}.anyOf", f"at least one driver is wanted; known: {', '.join(drivers.names())}")
    named = [(f"{path}.driver", text(driver))] if text(driver) else []
    named += [(f"{path}.anyOf[{index}]", name) for index, name in enumerate(texts(any_of))]
    seen: dict[str, str] = {}
    known = []
    for where, name in named[:64]:
        one = drivers.get(name)
        if one is None:
            found.add(where, unknown_driver(name, drivers), "FieldValueNotSupported")
        elif where.endswith("]") and seen.setdefault(name, where) != where:
            found.duplicate(where, f"{name} is {seen[name]} already")
        else:
            known.append(one)
    candidates = known if named else list(drivers)
    if virt_type and candidates and not any(virt_type in one.virt_types for one in candidates):
        accepted = "; ".join(f"{one.name}: {', '.join(one.virt_types)}" for one in candidates)
        message = f"no allowed driver has virtType {virt_type[:64]!r}; accepted: {accepted}"
        found.add(f"{path}.virtType", message, "FieldValueNotSupported")
