"""What may not be changed of a virtual machine while something is done with it: a snapshot, a restore."""

from __future__ import annotations

from polyvisor.admission.values import Findings, mapping, text
from polyvisor.api import Obj


def validate(vm: Obj, old: Obj, found: Findings) -> None:
    """Refuse changes, in KubeVirt's words; ``old`` has the status that counts."""
    status = mapping(old, "status")
    strategy = _strategy(vm) != _strategy(old)
    if (snapshot := text(status.get("snapshotInProgress"))) and _volumes(vm) != _volumes(old):
        message = f"Cannot update vm disks or volumes until snapshot {snapshot!r} completes"
        found.add("spec", message, "FieldValueNotSupported")
    elif snapshot and strategy:
        message = f"Cannot update vm running state until snapshot {snapshot!r} completes"
        found.add("spec", message, "FieldValueNotSupported")
    if (restore := text(status.get("restoreInProgress"))) and strategy:
        message = f"Cannot update VM runStrategy until restore {restore!r} completes"
        found.add("spec", message, "FieldValueNotSupported")


def _strategy(vm: Obj) -> str:
    spec = mapping(vm, "spec")
    return text(spec.get("runStrategy")) or ("Always" if spec.get("running") is True else "Halted")


def _volumes(vm: Obj) -> object:
    return mapping(vm, "spec", "template", "spec").get("volumes") or []
