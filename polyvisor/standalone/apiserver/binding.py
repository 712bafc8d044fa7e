"""``pods/binding``: by which a scheduler says where a Pod runs."""

from __future__ import annotations

from typing import Any

from polyvisor.api.problems import Problem
from polyvisor.api.resources import NODES, PODS

from .clock import now
from .errors import Obj, conflict, invalid, not_found
from .registry import Options, Registry, clone, key_of


async def bind(registry: Registry, namespace: str, name: str, body: Any, options: Options) -> None:
    """Bind a Pod to a Node; once."""
    target = body.get("target") if isinstance(body, dict) else None
    node = target.get("name") if isinstance(target, dict) else None
    if not isinstance(node, str) or not node:
        problem = Problem("target.name", "the name of a node is required", "FieldValueRequired")
        raise invalid("Binding", "", name, [problem])
    if registry.store.get(*key_of(NODES, "", node)) is None:
        raise not_found(NODES.plural, "", node)

    def bound(old: Obj) -> Obj:
        present = old.get("spec", {}).get("nodeName")
        if present:
            raise conflict("pods/binding", "", name, f"pod {name} is already assigned to node {present!r}")
        if old["metadata"].get("deletionTimestamp"):
            raise conflict("pods/binding", "", name, f"pod {name} is being deleted, cannot be assigned to a host")
        new: Obj = clone(old)
        new["spec"]["nodeName"] = node
        conditions = new.setdefault("status", {}).setdefault("conditions", [])
        conditions[:] = [one for one in conditions if one.get("type") != "PodScheduled"]
        conditions.append({"type": "PodScheduled", "status": "True", "lastTransitionTime": now()})
        return new

    await registry.change(PODS, namespace, name, bound, options, "binding")
