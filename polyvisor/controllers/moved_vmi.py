"""Handing an instance over to the node and the Pod into which its guest has moved.

The source's agent has written that the migration is complete, and from that moment the guest is the target's; this only
says so in the fields by which everybody else finds it. So it does not matter what became of the migration's object.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from polyvisor.api.migrations import awaits_hand_over, is_committed, job_of, runs_in, state_of
from polyvisor.api.reading import read_status
from polyvisor.api.resources import VMIS
from polyvisor.controllers import migration_status
from polyvisor.controllers.objects import uid
from polyvisor.controllers.vmi_status import pod_is_final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from polyvisor.api import Obj
    from polyvisor.kube import Informer, KubeClient


def current(vmi: Obj, pods: Iterable[Obj]) -> Obj | None:
    """Return the launcher Pod that an instance's guest is in, or is to start in: the oldest if there are several."""
    ours = [pod for pod in pods if runs_in(pod, vmi)]
    return min(ours, key=lambda pod: str(pod["metadata"].get("creationTimestamp")), default=None)


async def hand_over(client: KubeClient, vmis: Informer, vmi: Obj, pods: list[Obj], at: datetime) -> bool:
    """Write the target of a migration that is complete into the instance; return whether there was something to do.

    Later the source's Pod is forgotten, once it has ended.
    """
    changed = copy.deepcopy(vmi)
    state = state_of(vmi)
    if awaits_hand_over(vmi):
        target = next((pod for pod in pods if job_of(pod) == state.get("migrationUid")), None)
        if target is not None:
            migration_status.hand_over(changed, target, at)
    elif is_committed(vmi):
        active = read_status(changed).get("activePods") or {}
        left = {uid(pod) for pod in pods if not pod_is_final(pod)}
        for one in [
            one for one, node in active.items() if one not in left and node != read_status(vmi).get("nodeName")
        ]:
            del active[one]
    if changed != vmi:
        vmis.learn(await client.update_status(VMIS, changed))
    return changed != vmi
