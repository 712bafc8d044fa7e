"""Where a machine's own state lies: folders of its claim, to which its launcher's folders are linked.

libvirt's driver keeps such state in places below the launcher's own folder; the plan says which (``keeps``). Linking
them to the claim before the launcher uses them is all that it takes for the state to outlive the launcher. On a node
that a kubelet keeps the claim is a volume of the launcher's container, and the folders are made in there.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from dataclasses import replace
from pathlib import Path

from polyvisor.agent.errors import PVC_NOT_FOUND, AgentError, UnsafePath, translated
from polyvisor.agent.files import giving, safepath
from polyvisor.agent.link import containers
from polyvisor.agent.storage import disks
from polyvisor.agent.storage.claims import ClaimKeeper
from polyvisor.api import Obj
from polyvisor.api.launcher_pods import STATE_FOLDER
from polyvisor.api.names import COMPUTE_CONTAINER, LAUNCHER_USER
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

    async def link(self, vmi: Obj, plan: LauncherPlan, uuid: str, owner: int) -> LauncherPlan:
        """Return the plan with links to the machine's claim, made ready; the plan itself if nothing is kept.

        ``owner`` is the user that the launcher will be, 0 for this process's.
        """
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
        parts = _parts(vmi, plan)
        folder = await asyncio.to_thread(self._folders, namespace, name, parts, owner)
        return _linked(plan, parts, uuid, folder)

    def _folders(self, namespace: str, name: str, parts: list[str], owner: int) -> Path:
        folder = disks.claim_folder(self._volumes, namespace, name)
        with safepath.opened_root(self._volumes) as top:
            for part in parts:
                with safepath.walk(top, [namespace, name, part], create=True):
                    pass
                if owner:
                    with translated(folder, "giving the machine its state"):
                        giving.give_folder(self._volumes, folder / part, owner)
        return folder


def link_in_pod(vmi: Obj, pod: Obj, plan: LauncherPlan, uuid: str) -> LauncherPlan:
    """Return the plan of a launcher in a Pod, with links to the machine's claim, made ready there. Blocking."""
    parts = _parts(vmi, plan)
    if not parts:
        return plan
    uid, identity = str(pod["metadata"]["uid"]), containers.container_id(pod, COMPUTE_CONTAINER)
    if not identity:
        raise ProcessLookupError(f"container {COMPUTE_CONTAINER} of Pod {uid} is not known to run yet")
    owner = 0 if plan.privileged else LAUNCHER_USER
    with containers.entered(containers.first_of(uid, identity), uid, identity) as (_, root):
        place = safepath.real_folder(root, safepath.parts(STATE_FOLDER))
        with (
            safepath.walk(root, place) as claim,
            translated(Path(f"/proc/self/fd/{claim}"), "making folders in the claim of the machine's state"),
        ):
            for part in parts:
                _own_folder(claim, part, owner)
    return _linked(plan, parts, uuid, Path(STATE_FOLDER))


def _parts(vmi: Obj, plan: LauncherPlan) -> list[str]:
    return [part for part in kept_state(vmi["spec"]) if part in plan.keeps]


def _linked(plan: LauncherPlan, parts: list[str], uuid: str, folder: Path) -> LauncherPlan:
    links = {plan.keeps[part].format(uuid=uuid): f"{folder}/{part}" for part in parts}
    return replace(plan, links={**plan.links, **links})


def _own_folder(claim: int, name: str, owner: int) -> None:
    """Make a folder for the launcher's user; one that is there stays whose it is."""
    scratch = f".{name}.{secrets.token_hex(8)}"
    if name in os.listdir(claim):
        return
    os.mkdir(scratch, 0o700, dir_fd=claim)
    folder = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=claim)
    try:
        if os.fstat(folder).st_uid != os.geteuid():
            raise UnsafePath("the claim of the machine's state gives what root makes to another user")
        os.fchown(folder, owner, owner)
    finally:
        os.close(folder)
    os.rename(scratch, name, src_dir_fd=claim, dst_dir_fd=claim)
