"""ControllerRevisions of a machine: what it was started from, and what its instance type and preference said.

All of them belong to the machine and go with it. A revision is never changed; a name stands for one content.
"""

from __future__ import annotations

import copy
import hashlib
from typing import TYPE_CHECKING, Any

from polyvisor.admission.instancetypes import kept_object
from polyvisor.api import names
from polyvisor.api.resources import CONTROLLER_REVISIONS, VMS
from polyvisor.controllers.objects import owner_reference, uid
from polyvisor.kube import ApiError, KubeClient

if TYPE_CHECKING:
    from polyvisor.admission.instancetypes import Source
    from polyvisor.api import Obj

LONGEST_NAME = 253
LONGEST_LABEL = 63
DIGITS = 8


def start_name(vm: Obj) -> str:
    """Return the name of the revision that an instance made from the present machine refers to."""
    return f"revision-start-vm-{uid(vm)}-{vm['metadata'].get('generation') or 1}"


async def keep_start(client: KubeClient, vm: Obj) -> None:
    """Keep the machine's spec, as its instance is being made from it."""
    labels = {names.START_OF_LABEL: uid(vm)}
    number = int(vm["metadata"].get("generation") or 1)
    await _create(client, vm, start_name(vm), labels, {"spec": copy.deepcopy(vm["spec"])}, number)


async def drop_starts(client: KubeClient, vm: Obj) -> None:
    """Forget what earlier instances were made from."""
    namespace, selector = vm["metadata"]["namespace"], f"{names.START_OF_LABEL}={uid(vm)}"
    for one in await client.list(CONTROLLER_REVISIONS, namespace, label_selector=selector):
        if one["metadata"]["name"] == start_name(vm):
            continue
        try:
            await client.delete(CONTROLLER_REVISIONS, one["metadata"]["name"], namespace)
        except ApiError as error:
            if not error.not_found:
                raise


class UnexpectedData(Exception):
    """There is a revision of the name that a content would have, and it holds something else."""


async def keep_source(client: KubeClient, vm: Obj, source: Source) -> str:
    """Keep an instance type or preference as it is now; return the name of its revision.

    Raises :class:`UnexpectedData` where the name is taken: whoever made that revision would say what the machine is.
    """
    metadata, version = source.obj["metadata"], source.resource.version
    generation = int(metadata.get("generation") or 0)
    whole = f"{vm['metadata']['name']}-{source.name}-{version}-{metadata.get('uid', '')}-{generation}"
    labels = {
        "generation": str(generation),
        "kind": source.resource.kind,
        "name": source.name,
        "uid": str(metadata.get("uid", "")),
        "version": version,
    }
    kept = {key: metadata[key] for key in ("name", "namespace", "uid", "generation") if key in metadata}
    data = {
        "apiVersion": source.resource.api_version,
        "kind": source.resource.kind,
        "metadata": kept,
        "spec": copy.deepcopy(source.spec),
    }
    name = shortened(whole, LONGEST_NAME)
    marked = {names.revision_label(what): shortened(value, LONGEST_LABEL) for what, value in labels.items()}
    existing = await _create(client, vm, name, marked, data)
    if existing is not None:
        found = kept_object(existing, source.resource, source.name)
        if found is None or found.get("spec") != data["spec"]:
            raise UnexpectedData(f"found existing ControllerRevision with unexpected data: {name}")
    return name


def shortened(text: str, limit: int) -> str:
    """Return a text that is no longer than ``limit`` and still differs from others that start alike."""
    if len(text) <= limit:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
    return f"{text[: limit - DIGITS - 1]}-{digest}"


async def _create(
    client: KubeClient, vm: Obj, name: str, labels: dict[str, str], data: Any, number: int = 0
) -> Obj | None:
    """Create a revision; return the one that there is already, if there is."""
    revision = {
        "apiVersion": CONTROLLER_REVISIONS.api_version,
        "kind": CONTROLLER_REVISIONS.kind,
        "metadata": {
            "name": name,
            "namespace": vm["metadata"]["namespace"],
            "labels": labels,
            "ownerReferences": [owner_reference(vm, VMS)],
        },
        "data": data,
        "revision": number,
    }
    try:
        await client.create(CONTROLLER_REVISIONS, revision)
    except ApiError as error:
        if not error.already_exists:
            raise
        return await client.get(CONTROLLER_REVISIONS, name, vm["metadata"]["namespace"])
    return None
