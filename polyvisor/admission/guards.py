"""What only Polyvisor's own components may write, whatever a user may do with the object otherwise.

A cluster's API server keeps the same rules by the policies in the chart's ``guards.yaml``; here they are for the
embedded one and for the webhook, which quietly puts a status back as KubeVirt does: a client that writes a whole object
back means its spec.
"""

from __future__ import annotations

from polyvisor.admission.values import mapping
from polyvisor.api import Obj, Problem
from polyvisor.api.launcher_pods import ATTACHMENT_APP
from polyvisor.api.names import APP_LABEL, CREATED_BY_LABEL, HYPERVISOR_PREFIX, LAUNCHER_APP
from polyvisor.api.resources import ENDPOINTS, MIGRATIONS, PODS, REPLICA_SETS, VMIS, VMS, Resource

STATUS_GUARDED = (VMS, VMIS, REPLICA_SETS, MIGRATIONS, PODS, ENDPOINTS)
"""Kinds whose status subresource is our components' alone, in standalone mode; a kubelet writes that of Pods else."""
PREFIXES = ("kubevirt.io/", "vm.kubevirt.io/", "vmi.kubevirt.io/", HYPERVISOR_PREFIX)


def with_old_status(obj: Obj, old: Obj | None) -> Obj:
    """Return an instance with the status that it had: none if it is new."""
    kept = {key: value for key, value in obj.items() if key != "status"}
    return {**kept, "status": old["status"]} if old is not None and "status" in old else kept


def machines_pod(pod: Obj) -> bool:
    """Whether a Pod says of itself that it is a machine's."""
    metadata = mapping(pod, "metadata")
    labels = mapping(metadata, "labels")
    owners = [one for one in metadata.get("ownerReferences") or [] if isinstance(one, dict)]
    return (
        labels.get(APP_LABEL) in (LAUNCHER_APP, ATTACHMENT_APP)
        or CREATED_BY_LABEL in labels
        or any(one.get("kind") == VMIS.kind and str(one.get("apiVersion")).startswith("kubevirt.io/") for one in owners)
    )


def pod_problems(pod: Obj, old: Obj | None) -> list[Problem]:
    """Say what is wrong with a user's making or changing a Pod, if it is a machine's or would become one."""
    if not machines_pod(pod) and not (old is not None and machines_pod(old)):
        return []
    if old is None:
        return [
            Problem("metadata", "Pods of virtual machines are made by virt-controller alone", "FieldValueForbidden")
        ]
    new, before = mapping(pod, "metadata"), mapping(old, "metadata")
    found = []
    if (new.get("ownerReferences") or []) != (before.get("ownerReferences") or []):
        what = "the owner of a virtual machine's Pod is set by virt-controller alone"
        found.append(Problem("metadata.ownerReferences", what, "FieldValueForbidden"))
    for field in ("labels", "annotations"):
        has, had = mapping(new, field), mapping(before, field)
        for key in sorted({*has, *had}):
            if (key == APP_LABEL or key.startswith(PREFIXES)) and has.get(key) != had.get(key):
                what = "set by virt-controller alone on a virtual machine's Pod"
                found.append(Problem(f"metadata.{field}[{key}]", what, "FieldValueForbidden"))
    return found


def may_write_status(resource: Resource) -> bool:
    """Whether users may write the status of a kind by its subresource."""
    return resource not in STATUS_GUARDED
