"""A domain of a host as the objects by which it is taken over: a plan, before anything is created or changed.

The machine is made of the domain as it is defined, since that is what the next start gives. Where the running guest has
something else, such as a disk that was attached to it alone, that is told: it ends with the guest, as it does without
Polyvisor.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from polyvisor.admission import AdmissionContext
from polyvisor.admission.explanation import explain
from polyvisor.adoption.convert import convert
from polyvisor.adoption.values import Conversion, Mapping, Note, Outcome
from polyvisor.api import Obj
from polyvisor.api.adopted import DELETION_POLICY_ANNOTATION, RETAIN
from polyvisor.api.endpoint_names import ADOPT_ANNOTATION
from polyvisor.api.names import RunStrategy
from polyvisor.api.resources import VMS
from polyvisor.drivers import DriverRegistry

ABSENT = "(absent)"
FOUND_OUT = re.compile(r".*\.pciAddress|spec\.domain\.cpu\.(model|features\[.*)")
"""Fields that libvirt works out at a start, so that the running domain says more of them than its definition."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """``conversion`` has the machine with all that adoption adds, ``machine`` being halted until its claims are there.

    ``run_strategy`` is the one to set then. ``passing`` is what the running guest has otherwise than the machine.
    """

    conversion: Conversion
    run_strategy: RunStrategy
    passing: tuple[Note, ...]


def take_over(xml: str, defined: str, active: bool, mapping: Mapping, drivers: DriverRegistry) -> Takeover:
    """Plan the adoption of a domain; ``xml`` as it runs, ``defined`` empty for one that is not defined.

    Raises :class:`ConversionError` for what is no domain of a known driver. What keeps it from being adopted is in the
    conversion's ``causes``.
    """
    found = convert(defined or xml, mapping, drivers)
    passing: tuple[Note, ...] = ()
    if active and defined:
        passing = tuple(_differences(convert(xml, mapping, drivers).machine, found.machine))
    machine = copy.deepcopy(found.machine)
    metadata, template = machine["metadata"], machine["spec"]["template"]
    metadata.setdefault("annotations", {})[DELETION_POLICY_ANNOTATION] = RETAIN
    template["metadata"] = {"annotations": {ADOPT_ANNOTATION: found.uuid}}
    template["spec"]["hypervisor"]["endpoint"] = mapping.endpoint
    driver = drivers.get(found.driver)
    assert driver is not None
    explanation = explain(VMS, machine, AdmissionContext({}, DriverRegistry([driver])))
    strategy = RunStrategy.RERUN_ON_FAILURE if active else RunStrategy.HALTED
    return Takeover(replace(found, machine=machine, explanation=explanation), strategy, passing)


def _differences(running: Obj, defined: Obj) -> Iterator[Note]:
    """Yield what a running machine has otherwise than it is defined, by fields of the instance's spec."""
    one, other = (dict(_leaves(machine["spec"]["template"]["spec"], "spec")) for machine in (running, defined))
    for path in sorted(one.keys() | other.keys()):
        now, then = one.get(path, ABSENT), other.get(path, ABSENT)
        if now != then and not FOUND_OUT.fullmatch(path):
            yield Note(path, str(now), Outcome.CHANGED, f"until the guest ends; from the next start on it is {then}")


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield every plain value; the items of a list go by their names, where they have them."""
    if isinstance(value, dict):
        if not value:
            yield path, "{}"
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            key = inner.get("name", number) if isinstance(inner, dict) else number
            yield from _leaves(inner, f"{path}[{key}]")
    else:
        yield path, value
