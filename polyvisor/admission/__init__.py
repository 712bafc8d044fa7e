"""Admission: what happens to an object between a user's hand and the store. Defaults, then every rule at once.

Everything here is a function of its arguments (only the identity of a new machine is drawn at random), so that the
embedded API server and a webhook in a cluster decide alike. The object that is handed in is never changed. Rules see
the object with its defaults applied; a problem's path therefore always leads into the object that would be stored.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal

from polyvisor.admission import gates, isolation, limits, namespaces, rights
from polyvisor.admission.clones import admit_clone
from polyvisor.admission.configuration import validate as validate_configuration
from polyvisor.admission.context import AdmissionContext, Admitted
from polyvisor.admission.datavolumes import admit_data_volume
from polyvisor.admission.endpoints import admit_endpoint
from polyvisor.admission.instancetypes.rules import admit_instancetype, admit_preference
from polyvisor.admission.machines import admit_instance, admit_machine
from polyvisor.admission.migrations import admit_migration
from polyvisor.admission.pools import admit_pool
from polyvisor.admission.replica_sets import admit_replica_set
from polyvisor.admission.snapshots import admit_content, admit_restore, admit_snapshot
from polyvisor.admission.values import Findings, mapping
from polyvisor.api import Obj, Problem, check
from polyvisor.api.checking import MAX_PROBLEMS
from polyvisor.api.metadata import check_metadata, check_name, dns_label_error
from polyvisor.api.refused import why_not
from polyvisor.api.resources import (
    CLONES,
    CLUSTER_INSTANCETYPES,
    CLUSTER_PREFERENCES,
    DATAVOLUMES,
    ENDPOINTS,
    INSTANCETYPES,
    KUBEVIRTS,
    MIGRATIONS,
    NAMESPACES,
    POOLS,
    PREFERENCES,
    REPLICA_SETS,
    RESTORES,
    SNAPSHOT_CONTENTS,
    SNAPSHOTS,
    VMIS,
    VMS,
    Resource,
)

Operation = Literal["CREATE", "UPDATE", "DELETE"]
NO_EFFECT = "KubeVirt's setting is kept and has no effect in Polyvisor"
MAX_WARNINGS = 30
"""As many as fit into the headers of an answer."""

__all__ = ["AdmissionContext", "Admitted", "Operation", "admit"]
ADMIT: dict[Resource, Callable[[Obj, Obj | None, AdmissionContext, Findings], None]] = {
    VMS: admit_machine,
    VMIS: admit_instance,
    REPLICA_SETS: admit_replica_set,
    POOLS: admit_pool,
    SNAPSHOTS: admit_snapshot,
    SNAPSHOT_CONTENTS: admit_content,
    RESTORES: admit_restore,
    CLONES: admit_clone,
    MIGRATIONS: admit_migration,
    INSTANCETYPES: admit_instancetype,
    CLUSTER_INSTANCETYPES: admit_instancetype,
    PREFERENCES: admit_preference,
    CLUSTER_PREFERENCES: admit_preference,
    ENDPOINTS: admit_endpoint,
}
"""Kinds that are filled in and judged whole, and by what."""
LIMITED = (*ADMIT, KUBEVIRTS, DATAVOLUMES)
"""Kinds whose rules compare parts of an object with each other."""


def admit(operation: Operation, resource: Resource, obj: Any, old: Obj | None, context: AdmissionContext) -> Admitted:
    """Decide on one write. ``old`` is the stored object of an update; ``obj`` of a deletion may be empty."""
    if operation == "DELETE":
        return Admitted(obj or {})
    if not isinstance(obj, dict):
        return Admitted({}, [Problem("", f"an object of kind {resource.kind} is wanted, found {type(obj).__name__}")])
    old = old if operation == "UPDATE" else None
    going = old is not None and bool(mapping(old, "metadata").get("deletionTimestamp"))
    if resource in LIMITED and not going and (problem := limits.exceeded(obj)):
        return Admitted(obj, [problem])
    obj = copy.deepcopy(obj)
    found = Findings()
    if old is not None:
        _fixed(obj, old, found)
    if going:
        found.problems += check_metadata(obj.get("metadata"))
    elif resource in ADMIT:
        ADMIT[resource](obj, old, context, found)
        if resource in (VMS, VMIS, REPLICA_SETS):
            rights.validate(obj, old, context.requester, found)
            gates.validate(obj, old, context, found)
            isolation.admit(obj, old, context, found)
    elif resource == KUBEVIRTS:
        from polyvisor.api import KubeVirt  # fifty classes that no machine needs

        if old is None or obj.get("spec") != old.get("spec"):
            idle: list[str] = []
            found.problems += check(KubeVirt, obj, idle)
            found.warnings += [f"{path}: {NO_EFFECT}" for path in idle[:MAX_WARNINGS]]
            found.warnings += [f"{path}: {NO_EFFECT}" for path in gates.idle(obj)]
            validate_configuration(obj, context.drivers, found)
            namespaces.validate(obj, context.drivers, found)
    elif resource == DATAVOLUMES:
        admit_data_volume(obj, old, found)
    else:
        _other(resource, obj, found)
    problems = list(dict.fromkeys(found.problems))
    if len(problems) > MAX_PROBLEMS:
        more = Problem("", f"there are more problems than these {MAX_PROBLEMS}; repair them first")
        problems = [*problems[:MAX_PROBLEMS], more]
    return Admitted(obj, problems, found.warnings[:MAX_WARNINGS])


def _fixed(obj: Obj, old: Obj, found: Findings) -> None:
    """Check what no update may change."""
    new, stored = mapping(obj, "metadata"), mapping(old, "metadata")
    for key in ("name", "namespace", "uid"):
        if new.get(key) and stored.get(key) and new[key] != stored[key]:
            message = f"cannot be changed; it is {str(stored[key])[:80]!r}"
            found.add(f"metadata.{key}", message, "FieldValueForbidden")


def _other(resource: Resource, obj: Obj, found: Findings) -> None:
    """Check the metadata of Kubernetes' own kinds, whose rest is their writers' business; refuse what is not done."""
    metadata = obj.get("metadata")
    found.problems += check_metadata(metadata)
    found.problems += check_name(metadata)
    name = mapping(metadata).get("name")
    if resource.refused:
        message = why_not(resource.api_version, resource.kind)
        found.add("kind", message, "FieldValueNotSupported")
    if resource == NAMESPACES and isinstance(name, str) and name and (error := dns_label_error(name)):
        found.add("metadata.name", error)
