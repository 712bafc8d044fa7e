"""What admission does for a VirtualMachineInstanceReplicaSet: its template is held to the rules of the instances.

Nothing is filled in: each instance gets its own defaults when it is made, by the configuration of that day.
"""

from __future__ import annotations

from polyvisor.admission.context import AdmissionContext
from polyvisor.admission.instancetypes import Expansion
from polyvisor.admission.machines import validate_template
from polyvisor.admission.values import Findings, listed, mapping, number
from polyvisor.api import Obj, VirtualMachineInstanceReplicaSet, check, selectors
from polyvisor.api.metadata import check_metadata


def admit_replica_set(replica_set: Obj, old: Obj | None, context: AdmissionContext, found: Findings) -> None:
    """Check a VirtualMachineInstanceReplicaSet."""
    if old is not None and replica_set.get("spec") == old.get("spec"):
        found.problems += check_metadata(replica_set.get("metadata"))
        return
    found.problems += check(VirtualMachineInstanceReplicaSet, replica_set)
    spec = mapping(replica_set, "spec")
    wanted = number(spec.get("replicas"))
    if wanted is not None and wanted < 0:
        found.add("spec.replicas", f"found {wanted}; 0 or more are accepted")
    wrong = selectors.problems(spec.get("selector"), "spec.selector")
    found.problems += wrong
    template = spec.get("template")
    if not isinstance(template, dict):
        return
    if isinstance(spec.get("selector"), dict) and not wrong:
        selects(spec["selector"], mapping(template, "metadata", "labels"), found)
    validate_template(replica_set, context, found, Expansion(mapping(template, "spec"), {}))


def selects(selector: Obj, labels: Obj, found: Findings) -> None:
    """Check that a selector selects what is made from a template with these labels, and not everything."""
    if not selectors.to_text(selector):
        message = "an empty selector would take in every instance of the namespace; give matchLabels"
        found.required("spec.selector", message)
    elif not selectors.matches(selector, labels):
        given = listed(f"{key}={value}" for key, value in labels.items())
        message = f"does not select what is made from the template, whose labels are: {given}"
        found.add("spec.selector", message)
