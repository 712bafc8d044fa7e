"""Which machine type a machine names, as the label that its node has to show; the node's agent writes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from polyvisor.api import nearest
from polyvisor.api.node_names import MACHINE_TYPE_PREFIX

if TYPE_CHECKING:
    from polyvisor.api import VirtualMachineInstanceSpec
    from polyvisor.drivers.base import Support

SHOWN = 12
"""How many of the nodes' machine types a message names."""


def wanted(spec: VirtualMachineInstanceSpec, support: Support) -> list[str]:
    """Return the label of a node that has the machine type, if the feature is about that."""
    kind = spec.domain.machine.type if spec.domain.machine else None
    return [f"{MACHINE_TYPE_PREFIX}{kind}"] if kind and support.node_machine else []


def accepted(label: str, nodes: Iterable[Mapping[str, str]]) -> str:
    """Say which machine types the nodes have instead of the one in ``label``: near ones first."""
    there = {
        one.removeprefix(MACHINE_TYPE_PREFIX) for node in nodes for one in node if one.startswith(MACHINE_TYPE_PREFIX)
    }
    if not there:
        return "no node tells its machine types"
    near = nearest(label.removeprefix(MACHINE_TYPE_PREFIX), there)
    listed = sorted(there, key=lambda kind: (kind != near, "-" in kind, kind))
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return f"the nodes have {', '.join(listed[:SHOWN])}{more}"
