"""The scale subresource: the number of replicas of an object as autoscaling/v1 ``Scale``, which ``kubectl scale`` and
autoscalers read and write without knowing the kind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from polyvisor.api.problems import Problem
from polyvisor.api.reading import nested
from polyvisor.api.resources import Resource

from .errors import Obj, bad_request, invalid
from .registry import Options, Registry, clone

GROUP, VERSION, KIND = "autoscaling", "v1", "Scale"
_COPIED = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def scale_of(obj: Obj) -> Obj:
    """Return the Scale of an object."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    found: Obj = {
        "kind": KIND,
        "apiVersion": f"{GROUP}/{VERSION}",
        "metadata": {key: obj["metadata"][key] for key in _COPIED if key in obj["metadata"]},
        "spec": {"replicas": spec["replicas"]} if spec.get("replicas") is not None else {},
        "status": {"replicas": status.get("replicas") or 0},
    }
    if status.get("labelSelector"):
        found["status"]["selector"] = status["labelSelector"]
    return found


async def rescale(
    registry: Registry,
    resource: Resource,
    namespace: str,
    name: str,
    wanted: Callable[[Obj], Any],
    options: Options,
) -> Obj:
    """Change an object by a function from its present Scale to the wanted one; return the new Scale."""

    def changed(old: Obj) -> Obj:
        scale = wanted(scale_of(old))
        new: Obj = clone(old)
        new["spec"]["replicas"] = _replicas(resource, name, scale)
        version = nested(scale, "metadata").get("resourceVersion")
        new["metadata"]["resourceVersion"] = version or old["metadata"]["resourceVersion"]
        return new

    return scale_of(await registry.change(resource, namespace, name, changed, options))


def _replicas(resource: Resource, name: str, scale: Any) -> int:
    if not isinstance(scale, dict) or scale.get("kind", KIND) != KIND:
        raise bad_request(f"the body must be a {KIND} object of {GROUP}/{VERSION}")
    spec = scale.get("spec")
    found = (spec.get("replicas") if isinstance(spec, dict) else None) or 0
    if isinstance(found, bool) or not isinstance(found, int):
        raise bad_request(f"spec.replicas: must be a number, not {found!r}")
    if found < 0:
        problem = Problem("spec.replicas", f"Invalid value: {found}: must be greater than or equal to 0")
        raise invalid(KIND, GROUP, name, [problem])
    return found
