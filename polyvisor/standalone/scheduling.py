"""Whether a Pod fits on a node: selectors, affinity, taints, room. Pure, and only what standalone Pods use.

Each answer is the reason why not, in the words that kube-scheduler uses, so that counting them gives its well known
sentence ("0/3 nodes are available: ...").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from polyvisor.api import node_names
from polyvisor.api.quantity import parse_quantity, whole
from polyvisor.api.reading import nested, read_status

if TYPE_CHECKING:
    from polyvisor.api import Obj

DEFAULT_PODS = 110
BLOCKING_EFFECTS = ("NoSchedule", "NoExecute")
SELECTOR = "node(s) didn't match Pod's node affinity/selector"


def requests_of(pod: Obj) -> dict[str, Decimal]:
    """Return what a Pod asks for, by resource; a Pod counts as one of ``pods``."""
    spec = pod.get("spec") or {}
    wanted: dict[str, Decimal] = {}
    for container in spec.get("containers") or []:
        for name, amount in _requests(container).items():
            wanted[name] = wanted.get(name, Decimal(0)) + amount
    for container in spec.get("initContainers") or []:
        for name, amount in _requests(container).items():
            wanted[name] = max(wanted.get(name, Decimal(0)), amount)
    for name, given in (spec.get("overhead") or {}).items():
        wanted[name] = wanted.get(name, Decimal(0)) + Decimal(parse_quantity(given))
    wanted["pods"] = Decimal(1)
    return wanted


def is_final(pod: Obj) -> bool:
    """Whether the Pod no longer takes up room."""
    return read_status(pod).get("phase") in ("Succeeded", "Failed")


def room(node: Obj, pods: Iterable[Obj]) -> dict[str, Decimal]:
    """Return what is left of a node's allocatable resources beside the Pods bound to it."""
    status = node.get("status") or {}
    capacity = status.get("allocatable") or status.get("capacity") or {}
    left = {"pods": Decimal(DEFAULT_PODS)} | {k: Decimal(parse_quantity(v)) for k, v in capacity.items()}
    for pod in pods:
        if not is_final(pod):
            for name, amount in requests_of(pod).items():
                left[name] = left.get(name, Decimal(0)) - amount
    return left


def why_not(pod: Obj, node: Obj, left: Mapping[str, Decimal]) -> list[str]:
    """Return the reasons why the Pod cannot run on the node; empty if it can."""
    spec = pod.get("spec") or {}
    node_spec = node.get("spec") or {}
    tolerations = spec.get("tolerations") or []
    if node_spec.get("unschedulable") and not _tolerated(
        {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}, tolerations
    ):
        return ["node(s) were unschedulable"]
    ready = [c for c in read_status(node).get("conditions") or [] if c.get("type") == "Ready"]
    if ready and ready[0].get("status") != "True":
        return ["node(s) were not ready"]
    for taint in node_spec.get("taints") or []:
        if taint.get("effect") in BLOCKING_EFFECTS and not _tolerated(taint, tolerations):
            return [f"node(s) had untolerated taint {{{taint.get('key')}: {taint.get('value') or ''}}}"]
    if not selects(pod, node):
        return [SELECTOR]
    return [
        "Too many pods" if name == "pods" else f"Insufficient {name}"
        for name, amount in requests_of(pod).items()
        if amount > left.get(name, Decimal(0)) and amount > 0
    ]


def selects(pod: Obj, node: Obj) -> bool:
    """Whether the Pod's node selector and required node affinity allow the node."""
    spec = pod.get("spec") or {}
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = nested(spec, "affinity").get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    return any(_term(term, node) for term in required.get("nodeSelectorTerms") or [])


def preference(pod: Obj, node: Obj) -> int:
    """Return the weight of the Pod's preferred terms that the node meets."""
    affinity = nested(pod, "spec", "affinity").get("nodeAffinity") or {}
    preferred = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or []
    return sum(int(p.get("weight") or 0) for p in preferred if _term(p.get("preference") or {}, node))


def summary(reasons: Sequence[Sequence[str]]) -> str:
    """Return the sentence about all nodes that were looked at."""
    counted = Counter(reason for why in reasons for reason in why)
    parts = ", ".join(f"{count} {reason}" for reason, count in sorted(counted.items()))
    return f"0/{len(reasons)} nodes are available: {parts or 'there are none'}."


def advice(pod: Obj, node: Obj, left: Mapping[str, Decimal]) -> str:
    """Say how a node comes to have the huge pages that the Pod lacks there; empty if it lacks none."""
    has = read_status(node).get("allocatable") or {}
    for name, amount in requests_of(pod).items():
        size = name.removeprefix(node_names.HUGE_PAGES_PREFIX)
        lacking = amount - left.get(name, Decimal(0))
        if size == name or lacking <= 0:
            continue
        page = whole(size)
        pages, there = whole(lacking / page), whole(has.get(name, 0)) // page
        return (
            f"Node {node['metadata']['name']} has {there} huge pages of {size}, and {pages} more are wanted; set them "
            f"aside by: echo {there + pages} > /sys/kernel/mm/hugepages/hugepages-{page // 1024}kB/nr_hugepages "
            "(seen within a minute)"
        )
    return ""


def _requests(container: Obj) -> dict[str, Decimal]:
    resources = container.get("resources") or {}
    given = (resources.get("limits") or {}) | (resources.get("requests") or {})
    return {name: Decimal(parse_quantity(amount)) for name, amount in given.items()}


def _tolerated(taint: Mapping[str, str], tolerations: Iterable[Mapping[str, str]]) -> bool:
    for toleration in tolerations:
        if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
            continue
        key, exists = toleration.get("key"), toleration.get("operator") == "Exists"
        if not key and exists:
            return True
        if key == taint.get("key") and (exists or (toleration.get("value") or "") == (taint.get("value") or "")):
            return True
    return False


def _term(term: Obj, node: Obj) -> bool:
    expressions, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not expressions and not fields:
        return False
    labels = node["metadata"].get("labels") or {}
    named = {"metadata.name": node["metadata"]["name"]}
    return all(_matches(e, labels) for e in expressions) and all(_matches(f, named) for f in fields)


def _matches(expression: Obj, labels: Mapping[str, str]) -> bool:
    found = labels.get(expression["key"])
    values = expression.get("values") or []
    match expression.get("operator"):
        case "In":
            return found in values
        case "NotIn":
            return found not in values
        case "Exists":
            return found is not None
        case "DoesNotExist":
            return found is None
        case "Gt" | "Lt" as operator:
            try:
                number, bound = int(found or ""), int(values[0])
            except (ValueError, IndexError):
                return False
            return number > bound if operator == "Gt" else number < bound
    return False
