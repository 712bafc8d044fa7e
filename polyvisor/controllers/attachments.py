"""Keeps the Pod with the claims that came to a running machine, and replaces it when another set is wanted.

A claim belongs into it from the moment that it is usable until the machine's status no longer tells of its volume: the
agent takes the volume out of the status when the guest and the launcher have let go. What isn't obvious: the Pod before
stays until the next one runs, so that a claim in both is never without a Pod that keeps it on the node. A claim that
one Pod alone may have could not be in both, so it is in a Pod of its own, which is not replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from polyvisor.api import launcher_pods as inside
from polyvisor.api.names import FINAL_PHASES, VIRTUAL_NODE_TAINT, EventType, Reason
from polyvisor.api.owners import controller_of
from polyvisor.api.reading import nested, read_status
from polyvisor.api.resources import PODS
from polyvisor.api.volumes import drives
from polyvisor.controllers import data_volumes
from polyvisor.controllers.attachment_pod import attachment_name, build_attachment
from polyvisor.controllers.objects import condition, deleting, owned_by, phase_of, uid
from polyvisor.kube import ApiError, EventRecorder, Informer, KubeClient

if TYPE_CHECKING:
    from polyvisor.api import Obj

OWNER_INDEX = "owner"
ONE_POD = "ReadWriteOncePod"
READY = "Ready"
TAKEN_SECONDS = 2.0
"""How soon to look again when the Pod to make is still the one that goes."""


def owner_uids(pod: Obj) -> list[str]:
    """Return the uid of what controls a Pod, for :data:`OWNER_INDEX`."""
    owner = controller_of(pod)
    return [owner["uid"]] if owner else []


class Attachments:
    """The attachment Pods of all machines. ``pods`` is indexed by the uid of what controls a Pod."""

    def __init__(
        self,
        client: KubeClient,
        recorder: EventRecorder,
        *,
        pods: Informer,
        claims: Informer,
        nodes: Informer,
        config: Callable[[], Obj] = dict,
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._pods, self._claims, self._nodes = pods, claims, nodes
        self._config = config

    async def settle(self, vmi: Obj, launcher: Obj) -> float | None:
        """Bring the Pods of a running machine in line with its volumes; return when to look again."""
        found = self._of(launcher)
        if not found and not inside.to_attach(vmi["spec"], launcher):
            return None
        if self._is_virtual(str(launcher["spec"].get("nodeName") or "")):
            return None
        wanted, again = await self._wanted(vmi, launcher, found)
        there = {pod["metadata"]["name"]: pod for pod in found}
        targets = {attachment_name(launcher, one): one for one in self._sets(launcher, wanted)}
        waits = [again] if again else []
        complete = True
        for name, volumes in targets.items():
            target = there.get(name)
            if target is None:
                waits += filter(None, [await self._create(vmi, launcher, volumes)])
            elif phase_of(target) in FINAL_PHASES or deleting(target):
                await self._remove(vmi, [target])
                waits.append(TAKEN_SECONDS)
            elif not inside.attachment_holds(target):
                self._tell(vmi, target)
            else:
                continue
            complete = False
        others = [pod for name, pod in there.items() if name not in targets]
        await self._remove(vmi, [pod for pod in others if complete or not inside.attachment_holds(pod)])
        return min(waits, default=None)

    async def release(self, vmi: Obj, launchers: list[Obj]) -> None:
        """Remove the Pods of a machine that is over."""
        for launcher in launchers:
            await self._remove(vmi, self._of(launcher))

    def _of(self, launcher: Obj) -> list[Obj]:
        pods = self._pods.by_index(OWNER_INDEX, uid(launcher))
        return [pod for pod in pods if inside.is_attachment(pod) and owned_by(pod, launcher)]

    def _is_virtual(self, node: str) -> bool:
        """Whether a Node has no kubelet, which would mount claims: its agent finds them by itself."""
        found = self._nodes.get(None, node) or {}
        return any(taint.get("key") == VIRTUAL_NODE_TAINT for taint in nested(found, "spec").get("taints") or [])

    async def _wanted(self, vmi: Obj, launcher: Obj, found: list[Obj]) -> tuple[dict[str, str], float | None]:
        """Return the volumes that Pods are to have, by their names there, with their claims."""
        wanted: dict[str, str] = {}
        again: float | None = None
        for name, volume in inside.to_attach(vmi["spec"], launcher).items():
            claim = inside.brought_claim(volume)
            alone = {"metadata": vmi["metadata"], "spec": {"volumes": [volume]}}
            missing = "memoryDump" in volume and self._claims.get(vmi["metadata"]["namespace"], claim) is None
            if not missing and await data_volumes.waiting_for(self._client, self._claims, alone) is None:
                wanted[name] = claim
            else:
                again = data_volumes.LOOK_SECONDS
        there = {name: claim for pod in found for name, claim in inside.attached_claims(pod).items()}
        return {name: claim for name, claim in there.items() if _in_use(vmi, name, claim)} | wanted, again

    def _sets(self, launcher: Obj, wanted: dict[str, str]) -> list[dict[str, str]]:
        """Return what each Pod is to have."""
        alone, together = [], {}
        for name, claim in wanted.items():
            found = self._claims.get(launcher["metadata"]["namespace"], claim) or {}
            if ONE_POD in (nested(found, "spec").get("accessModes") or []):
                alone.append({name: claim})
            else:
                together[name] = claim
        return [*alone, *filter(None, [together])]

    async def _create(self, vmi: Obj, launcher: Obj, wanted: dict[str, str]) -> float | None:
        namespace = launcher["metadata"]["namespace"]
        named = {claim: self._claims.get(namespace, claim) for claim in wanted.values()}
        known = {name: claim for name, claim in named.items() if claim is not None}
        pod = build_attachment(launcher, wanted, known, self._config())
        name = pod["metadata"]["name"]
        try:
            await self._client.create(PODS, pod)
        except ApiError as error:
            if error.already_exists:  # the copy is behind, or the last one of that name is on its way out
                return TAKEN_SECONDS
            self._recorder.event(vmi, EventType.WARNING, Reason.FAILED_CREATE, f"attachment Pod {name}: {error}")
            raise
        self._recorder.event(vmi, EventType.NORMAL, Reason.SUCCESSFUL_CREATE, f"Created attachment pod {name}")
        return None

    async def _remove(self, vmi: Obj, pods: list[Obj]) -> None:
        for pod in pods:
            if deleting(pod):
                continue
            name = pod["metadata"]["name"]
            try:
                await self._client.delete(PODS, name, pod["metadata"]["namespace"], uid=uid(pod))
            except ApiError as error:
                if not error.not_found:
                    raise
            else:
                self._recorder.event(vmi, EventType.NORMAL, Reason.SUCCESSFUL_DELETE, f"Deleted attachment pod {name}")

    def _tell(self, vmi: Obj, pod: Obj) -> None:
        """Say why no node takes the Pod, which the node's agent cannot see yet."""
        scheduled = condition(pod, "PodScheduled") or {}
        if scheduled.get("status") == "False" and scheduled.get("reason") == Reason.UNSCHEDULABLE:
            what = f"attachment Pod {pod['metadata']['name']}: {scheduled.get('message')}"
            self._recorder.event(vmi, EventType.WARNING, Reason.UNSCHEDULABLE, what)


def _in_use(vmi: Obj, name: str, claim: str) -> bool:
    """Whether a machine's status still tells of a volume that a Pod has; a drive may hold the disc before."""
    stay = drives(vmi["spec"])
    for entry in read_status(vmi).get("volumeStatus") or []:
        if "hotplugVolume" not in entry:
            continue
        if entry["name"] not in stay:
            if name == inside.pod_volume(entry["name"]):
                return True
            continue
        volume = {"name": entry["name"], "persistentVolumeClaim": {"claimName": claim}}
        told = nested(entry, "persistentVolumeClaimInfo").get("claimName")
        if name == inside.attached_name(volume, disc=True) and (entry.get("phase") != READY or told == claim):
            return True
    return False
