"""What admission does for instance types and preferences themselves: their own numbers and choices are checked.

What they ask of a hypervisor is not: that depends on the machine that uses them, and is told of the machine.
"""

from __future__ import annotations

from polyvisor.admission.context import AdmissionContext
from polyvisor.admission.hypervisor import validate_choice
from polyvisor.admission.instancetypes import reserved
from polyvisor.admission.instancetypes.cpu import OLDER, SPREAD, THREADS_A_CORE, preferred, ratio_of
from polyvisor.admission.values import Findings, amount, mapping, number, text
from polyvisor.api import Obj, check
from polyvisor.api.metadata import check_metadata
from polyvisor.api.quantity import format_quantity
from polyvisor.api.schema import model_of

MIB = 1 << 20


def admit_instancetype(obj: Obj, old: Obj | None, context: AdmissionContext, found: Findings) -> None:
    """Check an instance type."""
    if not _changed(obj, old, found):
        return
    reserved.refuse(mapping(obj, "spec"), found)
    cpu, memory = mapping(obj, "spec", "cpu"), mapping(obj, "spec", "memory")
    for path, value in (("guest", cpu.get("guest")), ("maxSockets", cpu.get("maxSockets"))):
        count = number(value)
        if count is not None and count < 0:  # 0 is what clients write that leave it open
            found.add(f"spec.cpu.{path}", f"found {count}; 0 (left open) or more are accepted")
    guest = amount(memory.get("guest"))
    if guest and guest < MIB:
        found.add("spec.memory.guest", f"found {format_quantity(guest)}; 1Mi or more is accepted")
    percent = number(memory.get("overcommitPercent"))
    where = "spec.memory.overcommitPercent"
    if percent is not None and not 0 <= percent <= 100:
        found.add(where, f"{where} '{percent}': must be in range between 0 and 100.")
    if percent and memory.get("hugepages") is not None:
        found.add(where, f"{where} and spec.memory.hugepages should not be requested together.")


def admit_preference(obj: Obj, old: Obj | None, context: AdmissionContext, found: Findings) -> None:
    """Check a preference."""
    if not _changed(obj, old, found):
        return
    spec = mapping(obj, "spec")
    reserved.refuse(spec, found)
    for path, value in (
        ("spec.preferSpreadSocketToCoreRatio", spec.get("preferSpreadSocketToCoreRatio")),
        ("spec.cpu.spreadOptions.ratio", mapping(spec, "cpu", "spreadOptions").get("ratio")),
    ):
        ratio = number(value)
        if ratio is not None and ratio < 1:
            found.add(path, f"found {ratio}; 1 or more are accepted")
    across = text(mapping(spec, "cpu", "spreadOptions").get("across"))
    if preferred(spec) == SPREAD and across == "CoresThreads" and ratio_of(spec) != THREADS_A_CORE:
        message = (
            f"found {ratio_of(spec)}; CPUs that are spread over cores and threads have {THREADS_A_CORE} threads a core"
        )
        found.add("spec.cpu.spreadOptions.ratio", message)
    word = text(mapping(spec, "cpu").get("preferredCPUTopology"))
    if word in OLDER:
        found.warnings.append(f"spec.cpu.preferredCPUTopology: {word} is deprecated; use {OLDER[word]}")
    firmware = mapping(spec, "firmware")
    if firmware.get("preferredUseBios") and (firmware.get("preferredUseEfi") or firmware.get("preferredEfi")):
        found.add("spec.firmware", "preferredUseBios and an EFI preference exclude each other; give one")
    if firmware.get("preferredUseEfi") and firmware.get("preferredEfi") is not None:
        found.add("spec.firmware.preferredUseEfi", "is older than preferredEfi, which is given too; leave it out")
    validate_choice(mapping(spec, "preferredHypervisor"), "spec.preferredHypervisor", context.drivers, found)


def _changed(obj: Obj, old: Obj | None, found: Findings) -> bool:
    """Whether the spec is new; if so it is checked strictly."""
    if old is not None and obj.get("spec") == old.get("spec"):
        found.problems += check_metadata(obj.get("metadata"))
        return False
    found.problems += check(model_of(str(obj.get("kind"))), obj)
    return True
