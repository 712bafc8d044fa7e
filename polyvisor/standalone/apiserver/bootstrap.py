"""What exists in a new store: the namespaces, and the built-in kinds shown as CustomResourceDefinitions."""

from __future__ import annotations

import uuid
from contextlib import suppress

from polyvisor.api.resources import CRDS, NAMESPACES, RESOURCES, Resource
from polyvisor.api.schema import crd

from .clock import now
from .errors import StatusError
from .kinds import SERVICE_ACCOUNTS
from .registry import Options, Registry, key_of, kind_of, version_of

BUILT_IN_NAMESPACES = ("default", "kube-system", "kubevirt")


async def bootstrap(registry: Registry) -> None:
    """Create what is missing and bring the definitions up to date."""
    for name in BUILT_IN_NAMESPACES:
        if registry.store.get(*key_of(NAMESPACES, "", name)) is None:
            await registry.create(NAMESPACES, "", {"metadata": {"name": name}}, Options(manager="apiserver"))
    for namespace in registry.store.select(kind_of(NAMESPACES)):
        await _account(registry, namespace["metadata"]["name"])
    for resource in RESOURCES:
        if resource.custom:
            await _define(registry, resource)


async def _account(registry: Registry, namespace: str) -> None:
    """Create a namespace's default ServiceAccount where a store of an earlier version has none."""
    if registry.store.get(*key_of(SERVICE_ACCOUNTS, namespace, "default")) is None:
        with suppress(StatusError):  # the namespace is being deleted
            await registry.create(
                SERVICE_ACCOUNTS, namespace, {"metadata": {"name": "default"}}, Options(manager="apiserver")
            )


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
