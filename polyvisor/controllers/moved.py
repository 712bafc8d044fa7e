"""The claims that a move left: deleted once the machine has run where it went, if its policy says so.

An annotation names them, which whoever writes the machine can write; so this is for standalone mode, with its one user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyvisor.api.moved import MOVED_ANNOTATION, to_delete
from polyvisor.api.names import EventType, Phase
from polyvisor.api.reading import annotations_of
from polyvisor.api.resources import DATAVOLUMES, PVCS, VMS
from polyvisor.api.volumes import claims_of
from polyvisor.controllers.objects import phase_of, uid
from polyvisor.kube import ApiError, EventRecorder, KubeClient

if TYPE_CHECKING:
    from polyvisor.api import Obj


async def settle(client: KubeClient, recorder: EventRecorder, vm: Obj | None, vmi: Obj | None) -> Obj | None:
    """Delete the claims that a machine which runs has no more; return the machine, then without the annotation."""
    if vm is None or vmi is None or phase_of(vmi) != Phase.RUNNING or MOVED_ANNOTATION not in annotations_of(vm):
        return vm
    used = {*claims_of(vm["spec"]["template"]["spec"]), *claims_of(vmi["spec"])}
    left = [name for name in to_delete(vm) if name not in used]
    if not left:
        return vm
    metadata = vm["metadata"]
    others = [one for one in await client.list(VMS, metadata["namespace"]) if uid(one) != uid(vm)]
    shared = {name for one in others for name in claims_of(one["spec"]["template"]["spec"])}
    if kept := sorted(shared & set(left)):
        what = f"Kept what the move left, because other machines use it: {', '.join(kept)}"
        recorder.event(vm, EventType.WARNING, "OldClaimsKept", what)
    left = [name for name in left if name not in shared]
    for name in left:
        for resource in (DATAVOLUMES, PVCS):
            try:
                await client.delete(resource, name, metadata["namespace"])
            except ApiError as error:
                if not error.not_found:
                    raise
    if left:
        recorder.event(vm, EventType.NORMAL, "OldClaimsDeleted", f"Deleted what the move left: {', '.join(left)}")
    change = {"annotations": {MOVED_ANNOTATION: None}, "resourceVersion": metadata["resourceVersion"]}
    return await client.patch(VMS, metadata["name"], {"metadata": change}, metadata["namespace"])
