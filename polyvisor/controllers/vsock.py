"""Numbers by which host and guest find each other over vsock: one a machine, and no two alike in the cluster.

The number stands in the machine's status before its Pod is made. Numbers are drawn, not counted, so that one which a
machine has just left is not another's at once; 0 to 2 are the hypervisor's and the host's, the highest is "any".
What isn't obvious: what was written a moment ago may not be among the known machines yet, so it is remembered here.
"""

from __future__ import annotations

import copy
import random

from polyvisor.api import Obj
from polyvisor.api.names import FINAL_PHASES
from polyvisor.api.reading import read_status
from polyvisor.api.resources import VMIS
from polyvisor.controllers.objects import phase_of, uid
from polyvisor.kube import Informer, KubeClient

FIRST, LAST = 3, 2**32 - 2
FIELD = "VSOCKCID"


class Numbers:
    """Gives numbers, beside those that ``vmis`` have."""

    def __init__(self, client: KubeClient, vmis: Informer) -> None:
        self._client = client
        self._vmis = vmis
        self._given: dict[str, int] = {}

    async def give(self, vmi: Obj) -> Obj:
        """Return the machine with a number in its status, if it wants one; written first where it has none yet."""
        devices = vmi["spec"].get("domain", {}).get("devices") or {}
        if devices.get("autoattachVSOCK") is not True or read_status(vmi).get(FIELD):
            return vmi
        number = self._given.get(uid(vmi)) or self._free()
        self._given[uid(vmi)] = number
        changed = copy.deepcopy(vmi)
        changed.setdefault("status", {})[FIELD] = number
        return await self._client.update_status(VMIS, changed)

    def _free(self) -> int:
        known = {uid(vmi): vmi for vmi in self._vmis.items()}
        self._given = {uid_: cid for uid_, cid in self._given.items() if uid_ in known}
        used = {vmi["status"].get(FIELD) for vmi in known.values() if vmi.get("status") and not _over(vmi)}
        used |= set(self._given.values())
        while (number := random.randint(FIRST, LAST)) in used:
            pass
        return number


def _over(vmi: Obj) -> bool:
    return phase_of(vmi) in FINAL_PHASES
