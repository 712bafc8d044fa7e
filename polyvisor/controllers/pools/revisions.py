"""ControllerRevisions of a pool: the template that a virtual machine and its instance were made from.

They tell whether a changed pool means a restart (the instance's template differs), another virtual machine (its
DataVolumes differ) or nothing (only the number of replicas does). A revision goes when nothing refers to it any more.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING

from polyvisor.api.pools import POOL_LABEL
from polyvisor.api.resources import CONTROLLER_REVISIONS, POOLS
from polyvisor.controllers.objects import owner_reference, uid
from polyvisor.controllers.pools.template import revision_name
from polyvisor.kube import ApiError, KubeClient

if TYPE_CHECKING:
    from polyvisor.api import Obj

Revisions = dict[str, "Obj"]
"""The pool's specs by the name of their revision."""


async def read(client: KubeClient, pool: Obj) -> Revisions:
    """Return the pool's revisions; the present one is kept first where it is not there yet."""
    namespace, name = pool["metadata"]["namespace"], revision_name(pool)
    found = await client.list(CONTROLLER_REVISIONS, namespace, label_selector=f"{POOL_LABEL}={uid(pool)}")
    revisions: Revisions = {one["metadata"]["name"]: one["data"] for one in found}
    if name not in revisions:
        revision = {
            "apiVersion": CONTROLLER_REVISIONS.api_version,
            "kind": CONTROLLER_REVISIONS.kind,
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {POOL_LABEL: uid(pool)},
                "ownerReferences": [owner_reference(pool, POOLS)],
            },
            "data": copy.deepcopy(pool["spec"]),
            "revision": int(pool["metadata"].get("generation") or 1),
        }
        await client.create(CONTROLLER_REVISIONS, revision)
        revisions[name] = revision["data"]
    return revisions


async def prune(client: KubeClient, pool: Obj, revisions: Iterable[str], used: Iterable[str]) -> None:
    """Delete the revisions that nothing refers to."""
    for name in set(revisions) - set(used) - {revision_name(pool)}:
        try:
            await client.delete(CONTROLLER_REVISIONS, name, pool["metadata"]["namespace"])
        except ApiError as error:
            if not error.not_found:
                raise
