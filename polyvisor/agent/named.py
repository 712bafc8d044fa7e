"""Objects that a machine names in its own namespace."""

from __future__ import annotations

from collections.abc import Iterable

from polyvisor.api import Obj
from polyvisor.api.resources import Resource
from polyvisor.kube import ApiError, KubeClient


async def named(client: KubeClient, resource: Resource, names: Iterable[str], namespace: str) -> dict[str, Obj]:
    """Return those of the named objects that exist, by name. Raises :class:`ApiError` for all but 404."""
    found: dict[str, Obj] = {}
    for name in sorted(names):
        try:
            found[name] = await client.get(resource, name, namespace)
        except ApiError as error:
            if not error.not_found:
                raise
    return found
