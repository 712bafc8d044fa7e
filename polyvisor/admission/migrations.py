"""What admission does for a VirtualMachineInstanceMigration: it names an instance that can move, and never another.

All that keeps the instance where it is is told at once, from the conditions that its node and its controller have set.
"""

from __future__ import annotations

from polyvisor.admission.context import AdmissionContext
from polyvisor.admission.values import Findings, mapping, text
from polyvisor.api import Obj, VirtualMachineInstanceMigration, check
from polyvisor.api.metadata import check_metadata
from polyvisor.api.migrations import FINALIZER, is_moving, state_of
from polyvisor.api.names import FINAL_PHASES, MIGRATION_SELECTOR_LABEL, VmiCondition
from polyvisor.api.reading import read_status
from polyvisor.api.resources import VMIS

FIELD = "spec.vmiName"


def admit_migration(migration: Obj, old: Obj | None, context: AdmissionContext, found: Findings) -> None:
    """Check a VirtualMachineInstanceMigration, and mark a new one with its instance."""
    if old is not None:
        found.problems += check_metadata(migration.get("metadata"))
        if migration.get("spec") != old.get("spec"):
            message = "a migration's spec cannot be changed; delete the migration, which gives it up, and make another"
            found.add("spec", message, "FieldValueForbidden")
        return
    found.problems += check(VirtualMachineInstanceMigration, migration)
    name = text(mapping(migration, "spec").get("vmiName"))
    if not name:
        found.required(FIELD, "vmiName is missing; give the name of a running instance in the same namespace")
        return
    metadata = migration.setdefault("metadata", {})
    if not isinstance(metadata, dict):
        return
    namespace = text(metadata.get("namespace")) or "default"
    vmi = context.lookup(VMIS, namespace, name)
    if vmi is None:
        found.add(FIELD, f"the VMI {namespace}/{name} does not exist")
        return
    for message in why_not(vmi):
        found.add(FIELD, message)
    labels = metadata.get("labels")
    metadata["labels"] = {**(labels if isinstance(labels, dict) else {}), MIGRATION_SELECTOR_LABEL: name}
    finalizers = metadata.get("finalizers")
    kept = finalizers if isinstance(finalizers, list) else []
    metadata["finalizers"] = [*(one for one in kept if one != FINALIZER), FINALIZER]


def why_not(vmi: Obj) -> list[str]:
    """Return all reasons for which an instance cannot be moved now."""
    status, name = read_status(vmi), vmi["metadata"]["name"]
    if status.get("phase") in FINAL_PHASES:
        return ["Cannot migrate VMI in finalized state."]
    found = []
    if vmi["metadata"].get("deletionTimestamp"):
        found.append(f"VMI {name} is being deleted")
    for condition in status.get("conditions") or []:
        if condition.get("type") == VmiCondition.LIVE_MIGRATABLE and condition.get("status") == "False":
            reason, message = condition.get("reason"), condition.get("message")
            found.append(f"Cannot migrate VMI, Reason: {reason}, Message: {message}")
    if is_moving(vmi):
        job = state_of(vmi).get("migrationUid")
        found.append(
            f"in-flight migration detected. Active migration job ({job}) is currently already in progress for VMI"
            f" {name}."
        )
    return found
