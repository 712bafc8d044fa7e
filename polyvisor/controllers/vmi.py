"""The VMI controller: from a VirtualMachineInstance to a launcher Pod that a node has taken over.

Placement decides the driver, the Pod is made for it, and the machine is handed over when the launcher runs. Before
anything is made or ended on the strength of something that is absent from the local copy, the API server itself is
asked, because the copy may be behind.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from polyvisor.admission.configuration import effective
from polyvisor.api import KubeVirtConfiguration, VirtualMachineInstanceSpec, names
from polyvisor.api.names import FINAL_PHASES, EventType, Phase, PodPhase, Reason
from polyvisor.api.owners import controller_of
from polyvisor.api.reading import read_status
from polyvisor.api.resources import PODS, VMIS
from polyvisor.api.volumes import claims_of
from polyvisor.controllers import data_volumes, moved_vmi, running_pod
from polyvisor.controllers import vmi_status as status_of
from polyvisor.controllers.adopted import is_there
from polyvisor.controllers.attachments import OWNER_INDEX, Attachments, owner_uids
from polyvisor.controllers.cpu_limits import limits_cpus
from polyvisor.controllers.hand_over import HandOver
from polyvisor.controllers.launcher_pod import build_pod, grace_period, is_launcher, tried_with
from polyvisor.controllers.nodes import is_open, shown
from polyvisor.controllers.objects import (
    add_finalizer,
    condition,
    deleting,
    has_finalizer,
    moment,
    now,
    phase_of,
    remove_finalizer,
    uid,
)
from polyvisor.controllers.state_claim import ensure_state_claim
from polyvisor.controllers.vsock import Numbers
from polyvisor.kube import ApiError, Controller, EventRecorder, Informer, KubeClient, WorkQueue, about, key_of
from polyvisor.placement import NOWHERE, NodeShapes, place
from polyvisor.placement.permission import anything, permits

if TYPE_CHECKING:
    from polyvisor.api import Obj
    from polyvisor.controllers.offers import Offers
    from polyvisor.drivers import DriverRegistry
    from polyvisor.placement import Placement

Key = tuple[str, str]
GIVE_WAY_SECONDS = 30.0
"""How long a Pod may stay unschedulable before the next eligible driver is tried."""
AGENT_SECONDS = 10.0
"""After how long a machine is looked at again whose Pod is gone and whose node's agent has yet to say that it ended."""
WORKERS = 16
"""A worker mostly waits for the API server; with few of them a busy one would set the pace of every machine."""
CLAIM_INDEX = "claim"


class VmiController:
    """Reconciles VirtualMachineInstances; the informers are shared and are run by the owner."""

    def __init__(
        self,
        client: KubeClient,
        drivers: DriverRegistry,
        recorder: EventRecorder,
        *,
        vmis: Informer,
        pods: Informer,
        nodes: Informer,
        claims: Informer,
        kubevirts: Informer,
        clock: Callable[[], datetime] = now,
        give_way_seconds: float = GIVE_WAY_SECONDS,
        workers: int = WORKERS,
        cluster: bool = False,
        offers: Offers | None = None,
    ) -> None:
        self._cluster, self._offers = cluster, offers
        self._client = client
        self._drivers = drivers
        self._recorder = recorder
        self._vmis, self._pods, self._nodes, self._claims, self._kubevirts = vmis, pods, nodes, claims, kubevirts
        self._shapes, self._hand_over = NodeShapes(), HandOver(nodes)
        self._attachments = Attachments(
            client, recorder, pods=pods, claims=claims, nodes=nodes, config=self.configuration
        )
        self._clock, self._numbers = clock, Numbers(client, vmis)
        self._give_way_seconds = give_way_seconds
        self.queue: WorkQueue[Key] = WorkQueue()
        self._controller = Controller("virt-controller-vmi", self.queue, self.reconcile, workers)
        pods.add_index(OWNER_INDEX, owner_uids)
        vmis.add_index(CLAIM_INDEX, _claim_keys)
        vmis.on_change(lambda old, new: self.queue.add(key_of(new or old or {})))
        pods.on_change(self._pod_changed)
        nodes.on_change(self._node_changed)
        claims.on_change(self._claim_changed)
        kubevirts.on_change(self._configuration_changed)
        if offers is not None:
            offers.on_change(self._wake_pending)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._controller.run()

    async def reconcile(self, key: Key) -> float | None:
        """Bring one machine a step further; return the seconds after which to look again."""
        vmi = self._vmis.get(*key)
        if vmi is None:
            return None
        about.work_with(vmi)
        pods = [p for p in self._pods.by_index(OWNER_INDEX, uid(vmi)) if is_launcher(p, vmi)]
        phase = phase_of(vmi)
        if deleting(vmi) or phase in FINAL_PHASES:
            self._hand_over.written(vmi)
        if deleting(vmi):
            return await self._delete(vmi, pods)
        if phase in FINAL_PHASES:
            await self._attachments.release(vmi, pods)
            return None
        tried = status_of.unschedulable_drivers(vmi)
        stale = [p for p in pods if phase in ("", Phase.PENDING) and tried_with(p) in tried]
        for pod in stale:
            await self._delete_pod(vmi, pod, 0)
        if stale:
            return None
        if await moved_vmi.hand_over(self._client, self._vmis, vmi, pods, self._clock()):
            return None
        if (current := moved_vmi.current(vmi, pods)) is not None:
            return await self._follow(vmi, current)
        return await (self._start(vmi) if phase in ("", Phase.PENDING) else self._pod_gone(vmi))

    async def _start(self, vmi: Obj) -> float | None:
        if waits := await data_volumes.waiting_for(self._client, self._claims, vmi):
            await self._hold(vmi, waits.reason, waits.message)
            return None if waits.reason == Reason.FAILED_PVC_NOT_FOUND else data_volumes.LOOK_SECONDS
        named = {name: self._claims.get(vmi["metadata"]["namespace"], name) for name in claims_of(vmi["spec"])}
        claims = {name: claim for name, claim in named.items() if claim is not None}
        settings = self.settings()
        config: Obj = settings.get("configuration") or {}
        spec = VirtualMachineInstanceSpec.model_validate(vmi["spec"])
        placement = self.place(vmi, spec, config, status_of.unschedulable_drivers(vmi))
        if placement.driver is None:
            await self._hold(vmi, Reason.NO_DRIVER, placement.explain(), placement)
            return None
        fresh = await self._fresh(vmi)
        if fresh is None:
            return None
        if not has_finalizer(fresh, names.VMI_FINALIZER):
            held = copy.deepcopy(fresh)
            add_finalizer(held, names.VMI_FINALIZER)
            status_of.pending(held, self._clock())
            fresh = await self._client.update(VMIS, held)
            self._vmis.learn(fresh)
        if trouble := await ensure_state_claim(self._client, fresh, config):
            await self._hold(fresh, Reason.BACKEND_STORAGE, trouble)
            return None
        fresh = await self._numbers.give(fresh)
        limit = await limits_cpus(self._client, fresh, config)
        pod = build_pod(fresh, spec, placement, settings, claims, cpu_limit=limit)
        await self._create_pod(fresh, pod, placement)
        return self._hand_over.made(fresh, placement)

    async def _create_pod(self, vmi: Obj, pod: Obj, placement: Placement) -> None:
        try:
            made = await self._client.create(PODS, pod)
        except ApiError as error:
            if not error.already_exists:
                await self._hold(vmi, Reason.FAILED_CREATE, f"the launcher Pod cannot be created: {error}")
                raise
            existing = await self._client.get(PODS, pod["metadata"]["name"], pod["metadata"]["namespace"])
            if not is_launcher(existing, vmi):
                what = f"Pod {pod['metadata']['name']} exists and belongs to something else"
                await self._hold(vmi, Reason.FAILED_CREATE, what)
                raise ApiError(409, "AlreadyExists", what) from error
            return
        message = f"Created virtual machine pod {made['metadata']['name']} for driver {placement.told()}"
        self._recorder.event(vmi, EventType.NORMAL, Reason.SUCCESSFUL_CREATE, message)

    async def _follow(self, vmi: Obj, pod: Obj) -> float | None:
        phase = phase_of(vmi)
        changed = copy.deepcopy(vmi)
        again: float | None = None
        at = self._clock()
        if status_of.pod_is_final(pod):
            await self._pod_final(vmi, pod)
            return None
        if phase in ("", Phase.PENDING, Phase.SCHEDULING):
            if why := status_of.pod_lost(pod):
                await self._pod_lost(vmi, why)
                return None
            if left := self._hand_over.scheduler_has(vmi, pod):
                return left
            decided = self._decision(vmi)
            at_work = status_of.pod_at_work(pod)
            left = self._hand_over.agent_has(pod, at) if at_work else 0.0
            if at_work and not left:
                status_of.scheduled(changed, pod, at, decided)
            else:
                again = self._unschedulable(changed, pod, at, decided) or left or None
        elif deleting(pod):
            status_of.terminating(changed, at)
        elif phase == Phase.RUNNING:
            await running_pod.settle(self._client, vmi, pod, at)
        await self._write(vmi, changed)
        self._hand_over.written(vmi)
        if phase == Phase.RUNNING and not deleting(pod):
            again = await self._attachments.settle(vmi, pod)
        return again

    def _decision(self, vmi: Obj) -> Placement | None:
        """Return what a Pod was made for, if the machine's status does not tell: the write after its making failed."""
        if phase_of(vmi) == Phase.SCHEDULING:
            return None
        if known := self._hand_over.placement(vmi):
            return known
        spec = VirtualMachineInstanceSpec.model_validate(vmi["spec"])
        return self.place(vmi, spec, self.configuration(), status_of.unschedulable_drivers(vmi))

    def _unschedulable(self, vmi: Obj, pod: Obj, at: datetime, decided: Placement | None) -> float | None:
        status_of.scheduling(vmi, pod, at, decided)
        waiting = condition(pod, "PodScheduled")
        if waiting is None or waiting.get("status") != "False" or waiting.get("reason") != Reason.UNSCHEDULABLE:
            return None
        since = moment(waiting.get("lastTransitionTime")) or at
        left = self._give_way_seconds - (at - since).total_seconds()
        if left > 0:
            return left
        driver = tried_with(pod)
        words = str(waiting.get("message") or "no node had room for the Pod")
        tried = status_of.unschedulable_drivers(vmi) | {driver: words}
        spec = VirtualMachineInstanceSpec.model_validate(vmi["spec"])
        following = self.place(vmi, spec, self.configuration(), tried)
        if following.driver is None:
            return None
        status_of.gave_way(vmi, driver, words, at)
        what = f"driver {driver} gives way to {following.driver.name}: {words}"
        self._recorder.event(vmi, EventType.WARNING, Reason.DRIVER_PASSED_OVER, what)
        return None

    async def _pod_final(self, vmi: Obj, pod: Obj) -> None:
        fresh = await self._fresh(vmi, any_phase=True)
        if fresh is None or phase_of(fresh) in FINAL_PHASES:
            return
        handed_over = phase_of(fresh) == Phase.RUNNING
        succeeded = handed_over and phase_of(pod) == PodPhase.SUCCEEDED
        reason = str(read_status(pod).get("reason") or Reason.FAILED)
        await self._end(fresh, Phase.SUCCEEDED if succeeded else Phase.FAILED, status_of.pod_failure(pod), reason)

    async def _pod_lost(self, vmi: Obj, why: str) -> None:
        """End a machine whose Pod somebody took away before its guest ran; whoever owns the machine makes another."""
        fresh = await self._fresh(vmi, any_phase=True)
        if fresh is not None and phase_of(fresh) in ("", Phase.PENDING, Phase.SCHEDULING):
            await self._end(fresh, Phase.FAILED, why, Reason.POD_TERMINATING)

    async def _pod_gone(self, vmi: Obj) -> float | None:
        if await self._live_pods(vmi):
            return None
        fresh = await self._fresh(vmi, any_phase=True)
        if fresh is None or phase_of(fresh) in (*FINAL_PHASES, "", Phase.PENDING):
            return None
        if self._hand_over.may_still_run(fresh, self._clock()):
            return AGENT_SECONDS
        name = str(read_status(fresh).get("nodeName") or "")
        node = f", and Node {name} as well" if name and self._nodes.get(None, name) is None else ""
        await self._end(fresh, Phase.FAILED, f"the launcher Pod is gone{node}", Reason.POD_NOT_EXISTS)
        return None

    async def _end(self, vmi: Obj, phase: Phase, message: str, reason: str = Reason.FAILED) -> None:
        changed = copy.deepcopy(vmi)
        status_of.ended(changed, phase, reason, message, self._clock())
        await self._write(vmi, changed)
        kind = EventType.WARNING if phase == Phase.FAILED else EventType.NORMAL
        self._recorder.event(vmi, kind, Reason.STOPPED, message)

    async def _delete(self, vmi: Obj, pods: list[Obj]) -> float | None:
        if not has_finalizer(vmi, names.VMI_FINALIZER):
            return None
        left = pods or await self._live_pods(vmi)
        for pod in left:
            await self._delete_pod(vmi, pod, grace_period(vmi))
        if left:  # whoever watches the machine sees how it ended: it goes when its Pods have gone
            return None
        if not pods and self._hand_over.may_still_run(vmi, self._clock()):
            return AGENT_SECONDS
        await self._attachments.release(vmi, pods)
        released = copy.deepcopy(vmi)
        remove_finalizer(released, names.VMI_FINALIZER)
        try:
            await self._client.update(VMIS, released)
        except ApiError as error:
            if not error.not_found:
                raise
        return None

    async def _delete_pod(self, vmi: Obj, pod: Obj, grace: int) -> None:
        if deleting(pod):
            return
        name = pod["metadata"]["name"]
        try:
            await self._client.delete(
                PODS, name, pod["metadata"]["namespace"], grace_period_seconds=grace, uid=uid(pod)
            )
        except ApiError as error:
            if not error.not_found:
                self._recorder.event(vmi, EventType.WARNING, Reason.FAILED_DELETE, f"Pod {name}: {error}")
                raise
        else:
            what = f"Deleted virtual machine pod {name}"
            self._recorder.event(vmi, EventType.NORMAL, Reason.SUCCESSFUL_DELETE, what)

    async def _hold(self, vmi: Obj, reason: Reason, message: str, placement: Placement | None = None) -> None:
        changed = copy.deepcopy(vmi)
        status_of.held_up(changed, reason, message, self._clock(), placement)
        if changed != vmi:
            await self._write(vmi, changed)
            kind = EventType.NORMAL if reason == Reason.NOT_ALL_DVS_READY else EventType.WARNING
            self._recorder.event(vmi, kind, reason, message)

    async def _write(self, before: Obj, after: Obj) -> None:
        if after != before:
            self._vmis.learn(await self._client.update_status(VMIS, after))

    async def _fresh(self, vmi: Obj, *, any_phase: bool = False) -> Obj | None:
        """Return the machine as the API server has it now, or None if the copy that was acted on is out of date."""
        try:
            fresh = await self._client.get(VMIS, vmi["metadata"]["name"], vmi["metadata"]["namespace"])
        except ApiError as error:
            if error.not_found:
                return None
            raise
        if uid(fresh) != uid(vmi) or deleting(fresh):
            return None
        return fresh if any_phase or phase_of(fresh) in ("", Phase.PENDING) else None

    async def _live_pods(self, vmi: Obj) -> list[Obj]:
        selector = f"{names.CREATED_BY_LABEL}={uid(vmi)}"
        pods = await self._client.list(PODS, vmi["metadata"]["namespace"], label_selector=selector)
        return [p for p in pods if is_launcher(p, vmi) and not status_of.pod_is_final(p)]

    def settings(self) -> Obj:
        """Return the spec of the cluster's KubeVirt object."""
        found = sorted(self._kubevirts.items(), key=lambda k: str(k["metadata"].get("creationTimestamp")))
        settings: Obj = found[0].get("spec") or {} if found else {}
        return settings

    def configuration(self) -> Obj:
        """Return the configuration in it."""
        return self.settings().get("configuration") or {}

    def place(self, vmi: Obj, spec: VirtualMachineInstanceSpec, config: Obj, tried: dict[str, str]) -> Placement:
        """Choose the driver for a machine; ``config`` is the KubeVirt object's, ``tried`` what found no node."""
        parsed = KubeVirtConfiguration.model_validate(effective(config, self._drivers) if self._cluster else config)
        nodes, alike = self._shapes.nodes(spec), self._shapes.alike(spec)
        allowed = permits(vmi) if self._cluster else anything
        where = spec, parsed, nodes, self._drivers
        beside = self._offers.of(vmi) if self._offers is not None else NOWHERE
        there = is_there(vmi)
        return place(*where, unschedulable=tried, alike=alike, permits=allowed, there_already=there, beside=beside)

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        pod = new or old or {}
        namespace = pod["metadata"]["namespace"]
        owner = controller_of(pod)
        if owner is not None and owner.get("kind") == PODS.kind:  # an attachment, of the Pod that a machine runs in
            owner = controller_of(self._pods.get(namespace, owner["name"]) or {"metadata": {}})
        if owner is not None and owner.get("kind") == VMIS.kind:
            self.queue.add((namespace, owner["name"]))

    def _node_changed(self, old: Obj | None, new: Obj | None) -> None:
        if new is not None and is_open(new):
            self._shapes.put(new)
        else:
            self._shapes.remove(key_of(new or old or {})[1])
        if old is not None and new is not None and shown(old) == shown(new):
            return
        self._wake_pending()

    def _configuration_changed(self, old: Obj | None, new: Obj | None) -> None:
        if old is None or new is None or old.get("spec") != new.get("spec"):
            self._wake_pending()

    def _claim_changed(self, old: Obj | None, new: Obj | None) -> None:
        if old is None or new is None or old["metadata"].get("annotations") != new["metadata"].get("annotations"):
            namespace, name = key_of(new or old or {})
            for vmi in self._vmis.by_index(CLAIM_INDEX, f"{namespace}/{name}"):
                self.queue.add(key_of(vmi))

    def _wake_pending(self) -> None:
        for vmi in self._vmis.items():
            if phase_of(vmi) in ("", Phase.PENDING):
                self.queue.add(key_of(vmi))


def _claim_keys(vmi: Obj) -> list[str]:
    return [f"{vmi['metadata']['namespace']}/{name}" for name in claims_of(vmi["spec"])]
