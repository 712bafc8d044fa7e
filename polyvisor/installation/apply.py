"""Applying an installation: each object by server-side apply, in order, and waiting until all of it works.

Applying again is an upgrade: what is there is brought in line, what others own in it (certificates in webhook
configurations, replicas that an autoscaler set) is left, and machines are not touched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from polyvisor.api import Obj, names
from polyvisor.api import cluster_resources as cluster
from polyvisor.api.reading import labels_of, read_status
from polyvisor.api.resources import CRDS, NAMESPACES
from polyvisor.installation.render import OWN_NAMESPACE, resource_of
from polyvisor.kube.client import KubeClient
from polyvisor.kube.errors import ApiError

FIELD_MANAGER = "polyvisor-install"
POLL_SECONDS = 0.5
Say = Callable[[str], None]


class InstallError(Exception):
    """The installation cannot go on; ``hint`` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


async def install(client: KubeClient, objects: Sequence[Obj], say: Say, *, seconds: float, wait: bool = True) -> None:
    """Apply everything; with ``wait``, return when it works, or raise :class:`InstallError` saying what does not."""
    await _check_foreign(client, objects)
    await _mark_namespace(client, objects)
    crds = [obj for obj in objects if obj["kind"] == CRDS.kind]
    rest = [obj for obj in objects if obj["kind"] not in (CRDS.kind, NAMESPACES.kind)]
    deadline = asyncio.get_running_loop().time() + seconds
    for obj in crds:
        await _apply(client, obj)
    await _until(client, crds, deadline, say if wait else lambda _: None)
    for obj in rest:
        await _apply(client, obj, deadline)
    say(f"{len(objects)} objects applied")
    if wait:
        await _until(client, rest, deadline, say)


async def _check_foreign(client: KubeClient, objects: Sequence[Obj]) -> None:
    """Refuse to take over CRDs that another project (KubeVirt) has brought."""
    for obj in objects:
        if obj["kind"] != CRDS.kind:
            continue
        try:
            found = await client.get(CRDS, obj["metadata"]["name"])
        except ApiError as error:
            if error.not_found:
                continue
            raise
        if labels_of(found).get(names.PART_OF_LABEL) != names.MANAGER:
            raise InstallError(
                f"the cluster has a {obj['metadata']['name']} that is not Polyvisor's",
                "KubeVirt itself is installed, or was: both serve the same API, and only one can. Remove it first; "
                "its CRDs go last, and all its machines with them.",
            )


async def _mark_namespace(client: KubeClient, objects: Sequence[Obj]) -> None:
    for obj in objects:
        if obj["kind"] != NAMESPACES.kind:
            continue
        try:
            await client.get(NAMESPACES, obj["metadata"]["name"])
        except ApiError as error:
            if not error.not_found:
                raise
            annotations = {OWN_NAMESPACE: "true"}
            await client.create(NAMESPACES, {**obj, "metadata": {**obj["metadata"], "annotations": annotations}})
        await client.apply(NAMESPACES, obj, field_manager=FIELD_MANAGER, force=True)


async def _apply(client: KubeClient, obj: Obj, deadline: float = 0.0) -> None:
    """Apply one object. A kind that was just defined may not be served yet: that is waited for."""
    while True:
        try:
            await client.apply(resource_of(obj), obj, field_manager=FIELD_MANAGER, force=True)
            return
        except ApiError as error:
            name = f"{obj['kind']} {obj['metadata']['name']}"
            if error.code == 403:
                raise InstallError(f"{name}: {error.message}", "Installing needs a cluster administrator.") from error
            if not error.not_found or asyncio.get_running_loop().time() > deadline:
                raise InstallError(f"{name} was not taken: {error.message}") from error
            await asyncio.sleep(POLL_SECONDS)


async def _until(client: KubeClient, objects: Sequence[Obj], deadline: float, say: Say) -> None:
    """Wait until each of the objects works."""
    for obj in objects:
        kind, metadata = obj["kind"], obj["metadata"]
        if kind not in JUDGES:
            continue
        while True:
            found = await client.get(resource_of(obj), metadata["name"], metadata.get("namespace"))
            why = JUDGES[kind](found)
            if not why:
                say(f"{kind} {metadata['name']} is ready")
                break
            if asyncio.get_running_loop().time() > deadline:
                hint = f"`kubectl get pods -n {metadata['namespace']}` shows more." if "namespace" in metadata else ""
                raise InstallError(f"{kind} {metadata['name']} does not get ready: {why}", hint)
            await asyncio.sleep(POLL_SECONDS)


def _condition(obj: Obj, kind: str) -> str:
    """Return what a condition says against an object; empty if it is true."""
    for condition in read_status(obj).get("conditions") or []:
        if condition.get("type") == kind:
            if condition.get("status") == "True":
                return ""
            return str(condition.get("message") or condition.get("reason") or f"{kind} is not true")
    return f"{kind} is not known yet"


def _deployment(obj: Obj) -> str:
    status = obj.get("status") or {}
    wanted = int(obj["spec"].get("replicas", 1))
    if status.get("observedGeneration", 0) < obj["metadata"].get("generation", 0):
        return "it was not looked at yet"
    updated, available = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    if updated < wanted or available < wanted or status.get("replicas", 0) > updated:
        return f"{available} of {wanted} replicas are available, {updated} of this version"
    return ""


def _daemon_set(obj: Obj) -> str:
    status = obj.get("status") or {}
    if status.get("observedGeneration", 0) < obj["metadata"].get("generation", 0):
        return "it was not looked at yet"
    wanted, available = status.get("desiredNumberScheduled", 0), status.get("numberAvailable", 0)
    updated = status.get("updatedNumberScheduled", 0)
    if available < wanted or updated < wanted:
        return f"{available} of {wanted} nodes have it, {updated} in this version"
    return ""


JUDGES: dict[str, Callable[[Obj], str]] = {
    CRDS.kind: lambda obj: _condition(obj, "Established"),
    cluster.DEPLOYMENTS.kind: _deployment,
    cluster.DAEMON_SETS.kind: _daemon_set,
    cluster.API_SERVICES.kind: lambda obj: _condition(obj, "Available"),
    "KubeVirt": lambda obj: _condition(obj, "Available"),
}
"""What keeps an object from being ready, in words; empty if nothing does."""
