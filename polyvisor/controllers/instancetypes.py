"""What a machine's instance type and preference said when the machine came to them holds for it from then on.

It is kept in a ControllerRevision that the machine's status names; whoever changes the instance type afterwards changes
new machines alone. To have the present one taken instead, take the reference out of the status, or delete the revision.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from polyvisor.admission.instancetypes import (
    FIELDS,
    Expansion,
    Source,
    expand,
    find,
    is_current,
    kept_object,
    kind_of,
    revision_of,
)
from polyvisor.admission.values import Findings
from polyvisor.api.names import Reason
from polyvisor.api.reading import nested, read_status
from polyvisor.api.resources import CONTROLLER_REVISIONS, VMS
from polyvisor.controllers.revisions import UnexpectedData, keep_source
from polyvisor.kube import ApiError, KubeClient
from polyvisor.kube.lookups import resolve

if TYPE_CHECKING:
    from polyvisor.admission.context import Lookup
    from polyvisor.admission.instancetypes.sources import Field
    from polyvisor.api import Obj

REASONS: dict[Field, Reason] = {
    "instancetype": Reason.FAILED_FIND_INSTANCETYPE,
    "preference": Reason.FAILED_FIND_PREFERENCE,
}


class Unusable(Exception):
    """A machine cannot be made as it is written: what it refers to is not there, or does not go with it."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


async def capture(client: KubeClient, vm: Obj) -> Obj:
    """Keep what the machine refers to, if that was not done yet; return the machine, whose status then names it."""
    status: Obj = copy.deepcopy(vm.get("status") or {})
    for field in FIELDS:
        key = f"{field}Ref"
        if not (vm["spec"].get(field) or {}):
            status.pop(key, None)
        elif not _is_kept(vm, field):
            source = await _source(client, vm, field)
            revision = source.revision or await _keep(client, vm, source)
            status[key] = {
                "kind": source.resource.kind,
                "name": source.name,
                "controllerRevisionRef": {"name": revision},
            }
    return vm if status == read_status(vm) else await client.update_status(VMS, vm | {"status": status})


async def upgrade(client: KubeClient, vm: Obj, current: set[str]) -> Obj:
    """Replace revisions that an older release made by ones of the present version; return the machine.

    ``current`` holds the names that need not be looked at again, and is added to. A revision that the machine's spec
    names is the user's, and stays.
    """
    status: Obj = copy.deepcopy(vm.get("status") or {})
    replaced: list[str] = []
    for field in FIELDS:
        reference = status.get(f"{field}Ref") or {}
        name = nested(reference, "controllerRevisionRef").get("name")
        resource = kind_of(field, str(reference.get("kind") or ""))
        given = vm["spec"].get(field) or {}
        if not name or name in current or resource is None or not given or given.get("revisionName"):
            continue
        try:
            revision = await client.get(CONTROLLER_REVISIONS, name, vm["metadata"]["namespace"])
        except ApiError as error:
            if error.not_found:
                continue
            raise
        obj = kept_object(revision, resource, str(reference.get("name") or ""))
        if obj is not None and not is_current(revision, resource):
            new = await _keep(client, vm, Source(resource, obj))
            if new != name:
                reference["controllerRevisionRef"]["name"] = new
                replaced.append(name)
        current.add(name)
    if not replaced:
        return vm
    vm = await client.update_status(VMS, vm | {"status": status})
    for name in replaced:
        try:
            await client.delete(CONTROLLER_REVISIONS, name, vm["metadata"]["namespace"])
        except ApiError as error:
            if not error.not_found:
                raise
    return vm


async def _keep(client: KubeClient, vm: Obj, source: Source) -> str:
    try:
        return await keep_source(client, vm, source)
    except UnexpectedData as error:
        raise Unusable(Reason.FAILED_CREATE, f"error encountered while storing ControllerRevisions: {error}") from error


async def expanded(client: KubeClient, vm: Obj) -> tuple[Obj, Expansion]:
    """Return the machine, and what its instance is made from."""
    expansion = await _expansion(client, vm)
    lost = [f"{field}Ref" for field, source in expansion.sources.items() if not source.revision]
    if lost:
        status = {key: value for key, value in read_status(vm).items() if key not in lost}
        vm = await capture(client, await client.update_status(VMS, vm | {"status": status}))
        expansion = await _expansion(client, vm)
    return vm, expansion


async def _expansion(client: KubeClient, vm: Obj) -> Expansion:
    def decide(lookup: Lookup) -> tuple[Expansion | None, Findings]:
        found = Findings()
        return expand(vm, vm.get("status"), lookup, found), found

    expansion, found = await resolve(client, decide)
    if expansion is None:
        raise Unusable(Reason.FAILED_CREATE, "; ".join(str(problem) for problem in found.problems))
    return expansion


async def _source(client: KubeClient, vm: Obj, field: Field) -> Source:
    def decide(lookup: Lookup) -> tuple[Source | None, Findings]:
        found = Findings()
        return find(vm, field, vm.get("status"), lookup, found), found

    source, found = await resolve(client, decide)
    if source is None:
        raise Unusable(REASONS[field], "; ".join(str(problem) for problem in found.problems))
    return source


def _is_kept(vm: Obj, field: Field) -> bool:
    status = vm.get("status") or {}
    named = ((status.get(f"{field}Ref") or {}).get("controllerRevisionRef") or {}).get("name")
    return bool(named) and named == revision_of(vm, field, status)
