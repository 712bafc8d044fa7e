"""The least that a preference asks of a machine: CPUs, memory, architecture."""

from __future__ import annotations

from decimal import Decimal

from polyvisor.admission.instancetypes.apply import SIZES
from polyvisor.admission.values import Findings, amount, mapping, number, text
from polyvisor.api import Obj
from polyvisor.api.quantity import format_quantity

START = "failure checking preference requirements: "
TEMPLATE = "spec.template.spec"


def check(given: Obj | None, preference: Obj, spec: Obj, found: Findings) -> None:
    """Report what the machine lacks; ``given`` is its instance type, ``spec`` what its template says itself."""
    wanted = mapping(preference, "requirements")
    _cpu(given, number(mapping(wanted, "cpu").get("guest")) or 0, spec, found)
    _memory(given, amount(mapping(wanted, "memory").get("guest")) or 0, spec, found)
    architecture, own = text(wanted.get("architecture")), text(spec.get("architecture"))
    effective = own or text(preference.get("preferredArchitecture"))
    if architecture and effective and effective != architecture:
        message = f"preference requires architecture {architecture} but {effective} is being requested"
        found.add(f"{TEMPLATE}.architecture", START + message)


def _cpu(given: Obj | None, wanted: int, spec: Obj, found: Findings) -> None:
    if given is not None:
        there = number(mapping(given, "cpu").get("guest")) or 0
        where, whose = "spec.instancetype", "instance type"
    else:
        cpu, there = mapping(spec, "domain", "cpu"), 1
        for key in SIZES:
            there *= number(cpu.get(key)) or 1
        where, whose = f"{TEMPLATE}.domain.cpu", "VirtualMachine"
    if there < wanted:
        message = f"insufficient CPU resources of {there} vCPU provided by {whose}, preference requires {wanted} vCPU"
        found.add(where, START + message)


def _memory(given: Obj | None, wanted: int | Decimal, spec: Obj, found: Findings) -> None:
    if given is not None:
        there = amount(mapping(given, "memory").get("guest")) or 0
        where, whose = "spec.instancetype", "instance type"
    else:
        domain = mapping(spec, "domain")
        own = mapping(domain, "memory").get("guest") or mapping(domain, "resources", "requests").get("memory")
        there = amount(own) or 0
        where, whose = f"{TEMPLATE}.domain.memory", "VirtualMachine"
    if there < wanted:
        message = f"insufficient Memory resources of {format_quantity(there)} provided by {whose}, "
        found.add(where, START + message + f"preference requires {format_quantity(wanted)}")
