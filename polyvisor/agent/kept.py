"""Where a machine's own state lies on this node: folders of its claim, to which its launcher's folders are linked.

libvirt's driver keeps such state in places below the launcher's own folder; the plan says which (``keeps``). Linking
them to the claim before the launcher starts is all that it takes for the state to outlive the launcher.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from polyvisor.agent import disks, safepath
from polyvisor.agent.claims import ClaimKeeper
from polyvisor.agent.errors import PVC_NOT_FOUND, AgentError
from polyvisor.api import Obj
from polyvisor.api.resources import PVCS
from polyvisor.domain.kept import kept_state, state_claim
from polyvisor.drivers.base import LauncherPlan
from polyvisor.kube import ApiError, KubeClient


class StateKeeper:
    """Links what a machine keeps into its launcher's plan."""

    def __init__(self, client: KubeClient, claims: ClaimKeeper, volumes: Path) -> None:
        self._client = client
        self._claims = claims
        self._volumes = volumes

    async def link(self, vmi: Obj, plan: LauncherPlan, uuid: str) -> LauncherPlan:
        """Return the plan with links to the machine's claim, made ready; the plan itself if nothing is kept."""
        name, namespace = state_claim(vmi), vmi["metadata"]["namespace"]
        if not name:
            return plan
        try:
            await self._claims.bind(await self._client.get(PVCS, name, namespace))
        except ApiError as error:
            if not error.not_found:
                raise
            what = f"PersistentVolumeClaim {namespace}/{name} for the machine's state does not exist"
            raise AgentError(what, reason=PVC_NOT_FOUND) from None
        places = {plan.keeps[part].format(uuid=uuid): part for part in kept_state(vmi["spec"]) if part in plan.keeps}
        folder = await asyncio.to_thread(self._folders, namespace, name, list(places.values()))
        return replace(plan, links={**plan.links, **{place: f"{folder}/{part}" for place, part in places.items()}})

    def _folders(self, namespace: str, name: str, parts: list[str]) -> Path:
        folder = disks.claim_folder(self._volumes, namespace, name)
        with safepath.opened_root(self._volumes) as top:
            for part in parts:
                with safepath.walk(top, [namespace, name, part], create=True):
                    pass
        return folder
