"""What one machine asks of its node, requirement by requirement, and how many nodes each of them excludes.

As with Kubernetes' scheduler the message says how many nodes there are and why each group of them is out. What the
machine itself asks for comes first: labels that it selects nodes by, features, then the driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polyvisor.api.node_names import DRIVERS_ANNOTATION
from polyvisor.api.problems import Problem
from polyvisor.api.reading import annotations_of

if TYPE_CHECKING:
    from polyvisor.api import Obj, VirtualMachineInstanceSpec

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CountedNode:
    """What a node shows, how many nodes show the same, and its agent's report on all drivers."""

    labels: Labels
    count: int = 1
    report: str = ""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One thing that a node has to show: the fields that ask for it, its name, and the test of a node's labels.

    ``words`` is the sentence for when no node has it.
    """

    fields: Sequence[str]
    title: str
    words: str
    met: Callable[[Labels], bool]
    feature: str = ""


def counted(nodes: Iterable[Obj], alike: Callable[[str], int] | None = None) -> list[CountedNode]:
    """Return what nodes show; ``alike`` says how many one stands for."""
    return [
        CountedNode(
            node["metadata"].get("labels") or {},
            alike(node["metadata"]["name"]) if alike else 1,
            annotations_of(node).get(DRIVERS_ANNOTATION, ""),
        )
        for node in nodes
    ]


def number(nodes: Iterable[CountedNode]) -> int:
    """Return how many nodes there are."""
    return sum(node.count for node in nodes)


def excluded(requirement: Requirement, nodes: Iterable[CountedNode]) -> int:
    """Return how many nodes do not meet a requirement."""
    return number(node for node in nodes if not requirement.met(node.labels))


def selectors(spec: VirtualMachineInstanceSpec) -> list[Requirement]:
    """Return the labels by which a machine selects nodes itself."""
    return [
        Requirement(
            (f"spec.nodeSelector[{key}]",),
            f"the label {key}={value}",
            f"no node has the label {key}={value}",
            _has(key, value),
        )
        for key, value in (spec.node_selector or {}).items()
    ]


def _all(total: int) -> str:
    return {0: "there are no nodes", 1: "excludes the only node"}.get(total, f"excludes all {total} nodes")


def _has(key: str, value: str) -> Callable[[Labels], bool]:
    return lambda labels: labels.get(key) == value


def unmet(requirements: Sequence[Requirement], nodes: Sequence[CountedNode]) -> list[Problem]:
    """Return what keeps a machine from every node: what excludes all of them, else all that excludes some.

    The order of the requirements is kept, so the most specific come first.
    """
    total = number(nodes)
    found = [(requirement, excluded(requirement, nodes)) for requirement in requirements]
    whole = [(requirement, count) for requirement, count in found if count == total]
    problems = []
    for requirement, count in whole or [(requirement, count) for requirement, count in found if count]:
        if whole:
            message = f"{requirement.words} ({_all(total)})"
        else:
            message = f"{requirement.title} excludes {count} of {total} nodes, and no node has all that is needed"
        problems += [
            Problem(field, message, "FieldValueNotSupported", requirement.feature) for field in requirement.fields
        ]
    return problems
