"""Which drivers may run a machine, and what each of them lacks for it.

A machine that names its driver is refused with one cause for each feature that the driver does not have; one that
leaves the choice open is refused only when no driver is left. What a driver's table does not know counts as lacking.
Whether a node really has the driver is not asked here: that changes with time, and placement explains it in status.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from polyvisor.admission.values import Findings, mapping, text, texts
from polyvisor.api import Obj, Problem, VirtualMachineInstanceSpec, nearest
from polyvisor.drivers import DriverRegistry, enablement
from polyvisor.drivers.answers import link
from polyvisor.drivers.base import Driver, Support
from polyvisor.drivers.enablement import by_name_or_alias
from polyvisor.drivers.features import Combined, Counted, Feature, asked
from polyvisor.drivers.verdict import Asked, lacking, may_support, supports


@dataclass(frozen=True, slots=True)
class Lack:
    """A feature that a machine asks for and a driver does not have, and which fields ask."""

    driver: Driver
    feature: Feature
    support: Support
    fields: tuple[str, ...]

    @property
    def reason(self) -> str:
        """Why, in the user's words."""
        return self.support.reason or f"needs virtType {' or '.join(self.support.virt_types)}"

    @property
    def message(self) -> str:
        """The sentence for a refusal, with where to read on."""
        see = link(self.support.source) or self.support.source
        return f"{self.feature.title} with {self.driver.title}: {self.reason}" + (f" ({see})" if see else "")


def enabled(configuration: Obj, drivers: DriverRegistry) -> list[Driver]:
    """Return the drivers that the configuration enables, best first; all of them if it names none."""
    listed = configuration.get("hypervisors")
    names = [text(item.get("name")) for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    found = enablement.enabled(((name, "") for name in names), {driver.name: driver for driver in drivers})
    return [driver for name in found if (driver := drivers.get(name)) is not None]


def unknown_driver(name: str, drivers: DriverRegistry) -> str:
    """Return the message for a driver that does not exist."""
    meant = by_name_or_alias(name, drivers)
    names = list(drivers.names())
    if meant is not None:
        return f"{name} is driver {meant.name} with virtType {meant.aliases[name]}; write those two"
    near = nearest(name, names) if len(name) < 64 else ""
    hint = f"; did you mean {near}?" if near else ""
    return f"no driver has the name {name[:64]!r}; known: {', '.join(names)}{hint}"


def lacks(driver: Driver, wanted: Asked, virt_type: str = "") -> list[Lack]:
    """Return what is ``wanted`` and ``driver`` does not have, each feature once."""
    found: dict[str, Lack] = {}
    for feature, field, support in lacking(driver, wanted, virt_type or None):
        before = found[feature.id].fields if feature.id in found else ()
        found[feature.id] = Lack(driver, feature, support, (*before, field))
    return list(found.values())


def usable(spec: Obj, configuration: Obj, drivers: DriverRegistry, everywhere: str = "") -> bool:
    """Return whether some allowed driver has everything that ``spec`` asks for; true for a spec that is malformed.

    ``everywhere`` names a feature that the driver must have whatever the node.
    """
    try:
        parsed = VirtualMachineInstanceSpec.model_validate(spec)
    except ValidationError:
        return True
    virt_type = text(mapping(spec, "hypervisor").get("virtType"))
    named, wanted = allowed(spec, configuration, drivers), asked(parsed)
    having = [one for one in named if not everywhere or supports(one, everywhere)]
    return not named or not all(lacks(driver, wanted, virt_type) for driver in having)


def validate(spec: Obj, path: str, configuration: Obj, drivers: DriverRegistry, found: Findings) -> None:
    """Check ``spec.hypervisor``, and every allowed driver against what the machine asks for."""
    before = len(found.problems)
    validate_choice(mapping(spec, "hypervisor"), f"{path}.hypervisor", drivers, found)
    if len(found.problems) > before:
        return
    try:
        parsed = VirtualMachineInstanceSpec.model_validate(spec)
    except ValidationError:
        return
    named = allowed(spec, configuration, drivers)
    on = enabled(configuration, drivers)
    for driver in named:
        if driver not in on:
            found.warnings.append(f"{path}.hypervisor: driver {driver.name} is not enabled in this cluster")
    virt_type = text(mapping(spec, "hypervisor").get("virtType"))
    wanted = asked(parsed)
    verdicts = {driver.name: lacks(driver, wanted, virt_type) for driver in named}
    if not named or not all(verdicts.values()):
        return
    found.problems += _refusals(path, verdicts, drivers, wanted, virt_type)


def allowed(spec: Obj, configuration: Obj, drivers: DriverRegistry) -> list[Driver]:
    """Return the drivers that the machine may run on by its own choice, or by the configuration's."""
    choice = mapping(spec, "hypervisor")
    wanted = [text(choice["driver"])] if text(choice.get("driver")) else texts(choice.get("anyOf"))
    if wanted:
        found = [driver for name in wanted if (driver := drivers.get(name)) is not None]
    else:
        found = enabled(configuration, drivers)
    virt_type = text(choice.get("virtType"))
    return [driver for driver in found if not virt_type or virt_type in driver.virt_types]


def _refusals(
    path: str,
    verdicts: dict[str, list[Lack]],
    drivers: DriverRegistry,
    wanted: Asked,
    virt_type: str,
) -> Iterator[Problem]:
    others = [driver for driver in drivers if driver.name not in verdicts]
    whole = [driver.name for driver in others if not lacks(driver, wanted, virt_type)]
    for lacking_here in verdicts.values():
        for lack in lacking_here:
            field = _full(path, lack.fields[0])
            more = f" (also {', '.join(_full(path, f) for f in lack.fields[1:4])})" if len(lack.fields) > 1 else ""
            hint = _hint(lack, whole, others)
            yield Problem(field, f"{lack.message}{more}{hint}", "FieldValueNotSupported", lack.feature.id)


def _hint(lack: Lack, whole: Sequence[str], others: Sequence[Driver]) -> str:
    """Say which drivers support it: the whole machine, else this feature."""
    if whole:
        return f"; supported by {' or '.join(whole)}"
    if isinstance(lack.feature, Counted | Combined):
        return ""  # whether others take it is known of few, and each of its parts may be lacking there
    having = [d.name for d in others if may_support(d, lack.feature.id)]
    if having:
        return (
            f"; {', '.join(having)} {'have' if len(having) > 1 else 'has'} it, but not all that this machine asks for"
        )
    return "; no other driver has it" if others else ""


def _full(path: str, field: str) -> str:
    return field if not field.startswith("spec.") else path + field.removeprefix("spec")


def validate_choice(choice: Obj, path: str, drivers: DriverRegistry, found: Findings) -> None:
    """Check what is asked of the hypervisor by itself, wherever it stands."""
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
