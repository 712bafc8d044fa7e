"""Nodes by what placement can tell of them: of thousands that show the same, one is looked at.

A node's shape is what it shows of drivers, features, CPUs and machine types, and its architecture.
A machine that names nodes by other labels
(``nodeSelector``) is placed among the nodes that it names, one by one, for only then do these labels matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from polyvisor.api.names import ARCH_LABEL, FEATURE_PREFIX, HYPERVISOR_PREFIX
from polyvisor.api.node_names import CPU_FEATURE_PREFIX, CPU_MODEL_PREFIX, MACHINE_TYPE_PREFIX

if TYPE_CHECKING:
    from polyvisor.api import Obj, VirtualMachineInstanceSpec

PREFIXES = (HYPERVISOR_PREFIX, FEATURE_PREFIX, CPU_MODEL_PREFIX, CPU_FEATURE_PREFIX, MACHINE_TYPE_PREFIX)
Shape = frozenset[tuple[str, str]]


class NodeShapes:
    """The nodes that machines may go to, kept in step by their owner."""

    def __init__(self) -> None:
        self._nodes: dict[str, Obj] = {}
        self._shape_of: dict[str, Shape] = {}
        self._shapes: dict[Shape, dict[str, None]] = {}

    def put(self, node: Obj) -> None:
        """Add a node, or take note of how it has changed."""
        name = node["metadata"]["name"]
        labels = node["metadata"].get("labels") or {}
        shape = frozenset((k, v) for k, v in labels.items() if k.startswith(PREFIXES) or k == ARCH_LABEL)
        self._nodes[name] = node
        if self._shape_of.get(name) == shape:
            return
        self._forget(name)
        self._shape_of[name] = shape
        self._shapes.setdefault(shape, {})[name] = None

    def remove(self, name: str) -> None:
        """Take a node out, if it is there."""
        self._nodes.pop(name, None)
        self._forget(name)

    def nodes(self, spec: VirtualMachineInstanceSpec) -> Iterable[Obj]:
        """Return enough nodes to decide by: one of each shape, or all where the machine names nodes itself."""
        if spec.node_selector:
            return self._nodes.values()
        return [self._nodes[next(iter(names))] for names in self._shapes.values()]

    def alike(self, spec: VirtualMachineInstanceSpec) -> Callable[[str], int] | None:
        """Return what tells how many nodes each of ``nodes(spec)`` stands for; None if for itself alone."""
        return None if spec.node_selector else lambda name: len(self._shapes[self._shape_of[name]])

    def _forget(self, name: str) -> None:
        shape = self._shape_of.pop(name, None)
        if shape is None:
            return
        del self._shapes[shape][name]
        if not self._shapes[shape]:
            del self._shapes[shape]
