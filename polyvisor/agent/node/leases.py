"""The Lease of a Node, by which others tell that its agent is alive."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from polyvisor.api import Obj
from polyvisor.api.resources import LEASES, NAMESPACES
from polyvisor.api.times import micro_stamp
from polyvisor.kube import ApiError, KubeClient

LEASE_NAMESPACE = "kube-node-lease"
LEASE_SECONDS = 40


async def renew_lease(client: KubeClient, name: str, node: Callable[[], Awaitable[Obj]]) -> None:
    """Renew the Lease of the Node ``name``, made with its namespace if it is not there.

    ``node`` reads the Node; it is asked only for a Lease that is to be made. Raises :class:`ApiError`.
    """
    try:
        await client.patch(LEASES, name, {"spec": {"renewTime": micro_stamp()}}, LEASE_NAMESPACE)
        return
    except ApiError as error:
        if not error.not_found:
            raise
    owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": (await node())["metadata"]["uid"]}
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": LEASE_NAMESPACE, "ownerReferences": [owner]},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": micro_stamp()},
    }
    try:
        await client.create(LEASES, lease)
    except ApiError as error:
        if not error.not_found:
            raise
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": LEASE_NAMESPACE}}
        await client.create(NAMESPACES, space)
        await client.create(LEASES, lease)
