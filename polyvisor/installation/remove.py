"""Taking an installation out of a cluster, so that nothing is left of it.

Machines come first, while there are still controllers to end them; then whatever could stand in the way of the rest
(webhooks, the aggregated API); then endpoints with their Nodes, of which nobody but their agents knows; then the rest
in the reverse order of its coming; last what the node agents wrote on the Nodes. A namespace goes only if the
installation made it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from polyvisor.api import Obj, names, node_names
from polyvisor.api import cluster_resources as cluster
from polyvisor.api.endpoint_names import (
    ENDPOINT_APP,
    ENDPOINT_SECRET,
    PROVIDER,
    account_of_endpoint,
    deployment_of_endpoint,
    node_of_endpoint,
)
from polyvisor.api.reading import annotations_of, nested, read_status
from polyvisor.api.resources import (
    ENDPOINTS,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
    SECRETS,
    VMIS,
    VMS,
    Resource,
)
from polyvisor.installation.apply import POLL_SECONDS, InstallError, Say
from polyvisor.installation.render import OWN_NAMESPACE, resource_of
from polyvisor.kube.client import KubeClient
from polyvisor.kube.errors import ApiError

FIRST = (cluster.API_SERVICES.kind, cluster.VALIDATING_WEBHOOKS.kind, cluster.MUTATING_WEBHOOKS.kind)
NAMED = 5
SECRETS_MADE = (
    *(names.CA_SECRET, names.API_SECRET, names.API_CLIENT_SECRET),
    *(names.HANDLER_SECRET, ENDPOINT_SECRET),
)
NODE_MARKS = (
    names.HYPERVISOR_PREFIX,
    names.FEATURE_PREFIX,
    *node_names.CPU_PREFIXES,
    names.NODE_SCHEDULABLE_LABEL,
    names.HEARTBEAT_ANNOTATION,
)
COMPONENTS = (names.API_APP, names.CONTROLLER_APP, names.HANDLER_APP, names.OPERATOR_APP, ENDPOINT_APP)
Target = tuple[Resource, str, str | None]


async def uninstall(
    client: KubeClient, objects: Sequence[Obj], namespace: str, say: Say, *, seconds: float, delete_machines: bool
) -> None:
    """Remove everything; raise :class:`InstallError` where machines are there that nobody said to delete."""
    deadline = asyncio.get_running_loop().time() + seconds
    await _machines(client, say, deadline, delete_machines)
    removable = [obj for obj in reversed(objects) if obj["kind"] != NAMESPACES.kind]
    for first in (True, False):
        targets = [_target(obj) for obj in removable if (obj["kind"] in FIRST) is first]
        for target in targets:
            await _delete(client, target)
        await _gone(client, targets, deadline)
        if first:
            await _endpoints(client, namespace, say, deadline)
    say(f"{len(removable)} objects are gone")
    await _pods_gone(client, namespace, deadline)
    made = [(SECRETS, name, namespace) for name in SECRETS_MADE] + [
        (LEASES, name, namespace) for name in (names.CONTROLLER_APP, names.OPERATOR_APP)
    ]
    for made_target in made:
        await _delete(client, made_target)
    await _nodes(client)
    if await _own(client, namespace):
        await _delete(client, (NAMESPACES, namespace, None))
        await _gone(client, [(NAMESPACES, namespace, None)], deadline)
        say(f"namespace {namespace} is gone")


async def _machines(client: KubeClient, say: Say, deadline: float, delete: bool) -> None:
    keepers = [(kind, await _listed(client, kind)) for kind in (REPLICA_SETS, VMS)]
    owners = [one for _, listed in keepers for one in listed]
    vmis = await _listed(client, VMIS)
    if not owners and not vmis:
        return
    if not delete:
        running = [vmi for vmi in vmis if read_status(vmi).get("phase") not in names.FINAL_PHASES]
        named = [f"{one['metadata']['namespace']}/{one['metadata']['name']}" for one in running or owners or vmis]
        listed = ", ".join(named[:NAMED]) + (f" and {len(named) - NAMED} more" if len(named) > NAMED else "")
        what = f"{len(running)} machines run" if running else f"{len(named)} machines are there, none of them running"
        raise InstallError(
            f"{what}: {listed}",
            "Their objects go with the installation. Delete them first, or give --delete-machines to shut them down "
            "and delete them.",
        )
    say(f"deleting {', '.join(f'{len(found)} {kind.plural}' for kind, found in (*keepers, (VMIS, vmis)))}")
    for resource, found in (*keepers, (VMIS, vmis)):
        for one in found:
            await _delete(client, (resource, one["metadata"]["name"], one["metadata"]["namespace"]))
    while left := [one for kind in (REPLICA_SETS, VMS, VMIS) for one in await _listed(client, kind)]:
        if asyncio.get_running_loop().time() > deadline:
            raise InstallError(
                f"{len(left)} machines have not gone, {left[0]['metadata']['name']} for one; nothing was uninstalled",
                "Their controllers still run. See the machines' Events, or ask again with a longer --timeout.",
            )
        await asyncio.sleep(POLL_SECONDS)
    say("all machines are gone")


async def _endpoints(client: KubeClient, namespace: str, say: Say, deadline: float) -> None:
    """Delete all endpoints with what virt-operator and their agents made for them; nothing changes on their hosts."""
    endpoints = await _listed(client, ENDPOINTS)
    targets: list[Target] = []
    for endpoint in endpoints:
        name = endpoint["metadata"]["name"]
        agent = deployment_of_endpoint(name)
        targets += [
            (ENDPOINTS, name, None),
            (cluster.DEPLOYMENTS, agent, namespace),
            (cluster.SERVICE_ACCOUNTS, account_of_endpoint(name), namespace),
            (LEASES, agent, namespace),
        ]
        for node in await client.list(NODES, field_selector=f"metadata.name={node_of_endpoint(name)}"):
            provider = f"{PROVIDER}{endpoint['metadata']['uid']}"
            if (
                node["metadata"]["name"] == node_of_endpoint(name)
                and nested(node, "spec").get("providerID") == provider
            ):
                targets.append((NODES, node_of_endpoint(name), None))
    for target in targets:
        await _delete(client, target)
    await _gone(client, targets, deadline)
    if endpoints:
        say(f"{len(endpoints)} endpoints are gone; nothing has changed on their hosts")


async def _listed(client: KubeClient, resource: Resource) -> list[Obj]:
    try:
        return await client.list(resource)
    except ApiError as error:
        if error.not_found:
            return []
        raise


def _target(obj: Obj) -> Target:
    return resource_of(obj), obj["metadata"]["name"], obj["metadata"].get("namespace")


async def _delete(client: KubeClient, target: Target) -> None:
    resource, name, namespace = target
    try:
        await client.delete(resource, name, namespace, propagation_policy="Background")
    except ApiError as error:
        if not error.not_found:
            raise


async def _gone(client: KubeClient, targets: Sequence[Target], deadline: float) -> None:
    for resource, name, namespace in targets:
        while True:
            try:
                await client.get(resource, name, namespace)
            except ApiError as error:
                if error.not_found:
                    break
                raise
            if asyncio.get_running_loop().time() > deadline:
                raise InstallError(f"{resource.kind} {name} does not go away", "Ask again; what is gone stays gone.")
            await asyncio.sleep(POLL_SECONDS)


async def _pods_gone(client: KubeClient, namespace: str, deadline: float) -> None:
    selector = f"{names.APP_LABEL} in ({','.join(COMPONENTS)})"
    while await client.list(PODS, namespace, label_selector=selector):
        if asyncio.get_running_loop().time() > deadline:
            raise InstallError(f"Pods of Polyvisor in namespace {namespace} do not end", "Ask again later.")
        await asyncio.sleep(POLL_SECONDS)


async def _nodes(client: KubeClient) -> None:
    """Take away what the agents wrote on the Nodes."""
    for node in await client.list(NODES):
        metadata = node["metadata"]
        change = {
            part: {key: None for key in metadata.get(part) or {} if key.startswith(NODE_MARKS)}
            for part in ("labels", "annotations")
        }
        change = {part: keys for part, keys in change.items() if keys}
        if change:
            await client.patch(NODES, metadata["name"], {"metadata": change})


async def _own(client: KubeClient, namespace: str) -> bool:
    try:
        found = await client.get(NAMESPACES, namespace)
    except ApiError as error:
        if error.not_found:
            return False
        raise
    return annotations_of(found).get(OWN_NAMESPACE) == "true"
