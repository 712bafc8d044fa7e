"""What exists in a new store: the namespaces, and the built-in kinds shown as CustomResourceDefinitions."""

from __future__ import annotations

import uuid

from polyvisor.api.resources import CRDS, NAMESPACES, RESOURCES, Resource
from polyvisor.api.schema import crd

from .clock import now
from .registry import Options, Registry, key_of, version_of

BUILT_IN_NAMESPACES = ("default", "kube-system", "kubevirt")


async def bootstrap(registry: Registry) -> None:
    """Create what is missing and bring the definitions up to date."""
    for name in BUILT_IN_NAMESPACES:
        if registry.store.get(*key_of(NAMESPACES, "", name)) is None:
            await registry.create(NAMESPACES, "", {"metadata": {"name": name}}, Options(manager="apiserver"))
    for resource in RESOURCES:
        if resource.custom:
            await _define(registry, resource)


async def _define(registry: Registry, resource: Resource) -> None:
    key = key_of(CRDS, "", resource.full_name)
    old = registry.store.get(*key)
    definition = crd(resource)
    if old is not None and old["spec"] == definition["spec"]:
        return
    moment = now()
    conditions = [
        {"type": kind, "status": "True", "reason": reason, "message": "", "lastTransitionTime": moment}
        for kind, reason in (("NamesAccepted", "NoConflicts"), ("Established", "InitialNamesAccepted"))
    ]
    fresh = {"uid": str(uuid.uuid4()), "generation": 1, "creationTimestamp": moment}
    definition["metadata"] |= old["metadata"] if old else fresh
    definition["status"] = {
        "acceptedNames": definition["spec"]["names"],
        "conditions": conditions,
        "storedVersions": [resource.version],
    }
    await registry.store.put(key, definition, version_of(old) if old else 0)
