"""Objects for a function that looks them up without waiting: it is called again once what it missed has been fetched.

So a decision stays a plain function of what it was given, and asks for no more than it needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from polyvisor.kube.client import KubeClient
from polyvisor.kube.errors import ApiError

if TYPE_CHECKING:
    from polyvisor.api import Obj
    from polyvisor.api.resources import Resource

Place = tuple["Resource", str, str]
T = TypeVar("T")
MOST_ROUNDS = 10


async def resolve(client: KubeClient, decide: Callable[[Callable[[Resource, str, str], Obj | None]], T]) -> T:
    """Return what ``decide(lookup)`` gives once nothing that it looks up is unknown.

    ``lookup(resource, namespace, name)`` gives the object or None; the namespace is empty for kinds without one.
    """
    known: dict[Place, Obj | None] = {}
    missed: set[Place] = set()

    def lookup(resource: Resource, namespace: str, name: str) -> Obj | None:
        place = (resource, namespace, name)
        if place not in known:
            missed.add(place)
        return known.get(place)

    for _ in range(MOST_ROUNDS):
        found = decide(lookup)
        if not missed:
            return found
        places = list(missed)
        known.update(zip(places, await asyncio.gather(*(_get(client, *place) for place in places)), strict=True))
        missed.clear()
    raise RuntimeError(f"a decision goes on looking things up: {places}")


async def _get(client: KubeClient, resource: Resource, namespace: str, name: str) -> Obj | None:
    try:
        return await client.get(resource, name, namespace or None)
    except ApiError as error:
        if error.not_found:
            return None
        raise
