"""The launcher Pod into which a running machine is to move: like its first one, on another node. Pure.

Its name follows from the migration, so that a second Pod for the same migration is refused by the API server whatever a
controller believes. What isn't obvious: driver and virt type are those that the machine runs with; a guest's devices
and CPU do not change while it moves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvisor.api import HypervisorChoice, names
from polyvisor.api.migrations import JOB_ANNOTATION, JOB_LABEL
from polyvisor.api.node_names import (
    CPU_FEATURE_PREFIX,
    CPU_MIGRATION_PREFIX,
    HOST_FEATURE_PREFIX,
    HOST_MODEL_PREFIX,
)
from polyvisor.api.reading import chosen_hypervisor, labels_of, nested
from polyvisor.controllers.launcher_pod import driver_of, pod_name
from polyvisor.controllers.objects import uid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from polyvisor.api import Obj, VirtualMachineInstanceSpec

SAME_NODE = "kubernetes.io/hostname"


def same_hypervisor(vmi: Obj, spec: VirtualMachineInstanceSpec) -> VirtualMachineInstanceSpec:
    """Return the spec that asks for the driver and virt type with which the machine runs."""
    chosen = chosen_hypervisor(vmi)
    moved = spec.model_copy(deep=True)
    moved.hypervisor = HypervisorChoice(driver=chosen.get("driver"), virt_type=chosen.get("virtType") or None)
    return moved


def target_pod(pod: Obj, vmi: Obj, migration: Obj, source_node: Obj | None, *, emulated: bool) -> Obj:
    """Turn a machine's launcher Pod, as it would be made now, into the one for a migration; in place."""
    metadata, spec = pod["metadata"], pod["spec"]
    metadata["name"] = pod_name(vmi, driver_of(pod)[0], uid(migration))
    metadata["labels"][JOB_LABEL] = uid(migration)
    metadata["annotations"][JOB_ANNOTATION] = migration["metadata"]["name"]
    apart = spec["affinity"].setdefault("podAntiAffinity", {})
    apart.setdefault("requiredDuringSchedulingIgnoredDuringExecution", []).append(
        {"labelSelector": {"matchLabels": {names.CREATED_BY_LABEL: uid(vmi)}}, "topologyKey": SAME_NODE}
    )
    selector = spec["nodeSelector"]
    if not emulated:
        selector |= cpu_of(vmi, labels_of(source_node or {}))
    added = nested(migration, "spec", "addedNodeSelector")
    selector |= {key: value for key, value in added.items() if key not in selector}  # it restricts, and frees nothing
    return pod


def cpu_of(vmi: Obj, labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of nodes that can show a guest the CPU that it has; ``labels`` are those of its node."""
    cpu = vmi["spec"]["domain"].get("cpu") or {}
    model = cpu.get("model") or "host-model"
    if model == "host-passthrough":
        return {key: "true" for key in labels if key.startswith(HOST_MODEL_PREFIX)}
    if model != "host-model":
        return {}
    wanted = {}
    for key in labels:
        if key.startswith(HOST_MODEL_PREFIX):
            wanted[CPU_MIGRATION_PREFIX + key.removeprefix(HOST_MODEL_PREFIX)] = "true"
        elif key.startswith(HOST_FEATURE_PREFIX):
            wanted[CPU_FEATURE_PREFIX + key.removeprefix(HOST_FEATURE_PREFIX)] = "true"
    return wanted
