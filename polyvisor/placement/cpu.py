"""Which CPU a machine names, as the labels that its node has to show: KubeVirt's, written by the node's agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvisor.api.node_names import CPU_FEATURE_PREFIX, CPU_MODEL_PREFIX

if TYPE_CHECKING:
    from polyvisor.api import VirtualMachineInstanceSpec

OF_THE_HOST = ("", "host-model", "host-passthrough")
NEEDED = ("", "require")


def wanted(spec: VirtualMachineInstanceSpec, feature: str) -> list[str]:
    """Return the labels of a node that can give what ``feature``, a row of the catalogue, stands for in ``spec``."""
    cpu = spec.domain.cpu
    if cpu is None:
        return []
    if feature == "cpu.features":
        return [f"{CPU_FEATURE_PREFIX}{one.name}" for one in cpu.features or [] if (one.policy or "") in NEEDED]
    return [f"{CPU_MODEL_PREFIX}{cpu.model}"] if (cpu.model or "") not in OF_THE_HOST else []


def forbidden(spec: VirtualMachineInstanceSpec) -> list[str]:
    """Return the labels that a node must not show: those of CPU features that the machine forbids."""
    cpu = spec.domain.cpu
    return [
        f"{CPU_FEATURE_PREFIX}{one.name}" for one in (cpu.features if cpu else None) or [] if one.policy == "forbid"
    ]
