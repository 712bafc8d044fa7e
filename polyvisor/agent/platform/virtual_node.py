"""Plays the kubelet for the launcher Pods bound to this Node: a Pod becomes a folder with a launcher in it.

Everything is decided from what there is: the Pods in the API, the folders below ``<state>/l``, the processes behind
them. So after the whole agent was killed the next one adopts each launcher, restarts those that died, and takes down
what belongs to a Pod that is gone. The key of all work is the folder's id, since a folder can outlive its Pod.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from polyvisor.agent.backoff import StepBackoff
from polyvisor.agent.errors import AgentError
from polyvisor.agent.files import giving, safepath
from polyvisor.agent.identity import domain_name, domain_uuid
from polyvisor.agent.launchers.launcher_pods import marked, owner_uid, pod_id
from polyvisor.agent.launchers.machine_plans import plan_of
from polyvisor.agent.launchers.processes import Launchers
from polyvisor.agent.link.connection import LauncherError, Link
from polyvisor.agent.live.power import pod_deadline, power_down
from polyvisor.agent.live.status import pod_ended, pod_refused, pod_status
from polyvisor.agent.node.id_ranges import IdRanges
from polyvisor.agent.node.registration import now
from polyvisor.agent.storage.prepared import DISKS, RESULT, SCRATCH
from polyvisor.api import Obj
from polyvisor.api.launcher_pods import made_for
from polyvisor.api.names import FINAL_PHASES, EventType
from polyvisor.api.resources import PODS
from polyvisor.api.volumes import shared
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.base import Driver, LauncherPlan
from polyvisor.kube import ApiError, EventRecorder, Informer, KubeClient, WorkQueue

RECORD_SECONDS = 10.0  # how long a deleted Pod waits for the machine's end to be recorded
log = logging.getLogger("polyvisor.virtual-node")


class VirtualNode:
    """Reconciles one folder (and the Pod that it belongs to) at a time."""

    def __init__(
        self,
        client: KubeClient,
        events: EventRecorder,
        registry: DriverRegistry,
        launchers: Launchers,
        pods: Informer,
        vmis: Informer,
        *,
        probe: Path,
        address: Callable[[], str],
        look: Callable[[str], None],
        kept: Callable[[Obj, LauncherPlan, str, int], Awaitable[LauncherPlan]],
        ids: IdRanges,
    ) -> None:
        self._client = client
        self._events = events
        self._registry = registry
        self._launchers = launchers
        self._pods = pods
        self._vmis = vmis
        self._probe = probe
        self._address = address
        self._look = look
        self._kept = kept
        self._ids = ids
        self._restarts: dict[str, int] = {}
        self.queue: WorkQueue[str] = WorkQueue()
        self._backoff = StepBackoff()
        pods.on_change(self._pod_changed)
        vmis.on_change(self._vmi_changed)

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        for pod in (old, new):
            if pod is not None:
                self.queue.add(pod_id(pod))

    def _vmi_changed(self, old: Obj | None, new: Obj | None) -> None:
        vmi = new or old
        if vmi is not None:
            for pod in self._pods.by_index("owner", vmi["metadata"]["uid"]):
                self.queue.add(pod_id(pod))

    def adopt(self) -> None:
        """Look at every folder that a former agent left; call once the informers are synced."""
        for id_ in self._launchers.ids():
            self.queue.add(id_)

    async def reconcile(self, id_: str) -> float | None:
        """Bring one folder and its Pod in line."""
        found = self._pods.by_index("id", id_)
        if not found:
            await self._remove_orphan(id_)
            return None
        pod = found[0]
        if pod["metadata"].get("deletionTimestamp"):
            return await self._delete(id_, pod)
        if (pod.get("status") or {}).get("phase") in FINAL_PHASES:
            return None
        driver = await self._driver(pod)
        if driver is None:
            return None
        return await self._run(id_, pod, driver)

    async def _driver(self, pod: Obj) -> Driver | None:
        name = made_for(pod)
        driver = self._registry.get(name)
        if owner_uid(pod) and driver is not None:
            return driver
        message = f"this node runs launcher Pods only, of drivers that it knows ({', '.join(self._registry.names())})"
        await self._write(pod, pod_refused(pod, message, self._address_of(pod)))
        return None

    def _address_of(self, pod: Obj) -> str:
        return self._launchers.networks.address(pod_id(pod)) or self._address()

    def _machine(self, pod: Obj) -> Obj | None:
        uid = owner_uid(pod)
        return next((vmi for vmi in self._vmis.by_index("uid", uid) if marked(pod, vmi)), None) if uid else None

    async def _run(self, id_: str, pod: Obj, driver: Driver) -> float | None:
        vmi = self._machine(pod)
        if vmi is None:
            return 2.0  # the machine is on its way, or gone and the Pod will follow
        phase = (vmi.get("status") or {}).get("phase")
        if phase in FINAL_PHASES and not self._launchers.exists(id_):
            await self._completed(pod, phase)
            return None
        plan = driver.launcher(self._launchers.folder(id_), self._probe / driver.name)
        plan = plan_of(plan, vmi["spec"], pod["spec"].get("nodeName") or "")
        uuid = domain_uuid(vmi)
        name = driver.domain_name(domain_name(vmi), uuid)
        if not self._launchers.known(id_):
            try:
                user = await self._user(id_, vmi, pod, driver, plan)
                plan = await self._kept(vmi, plan, uuid, user)
            except AgentError as error:
                return await self._waiting(id_, pod, error)
        self._launchers.write_plan(id_, plan, name=name, uuid=uuid, driver=driver.name)
        if self._launchers.get(id_) is None and (left := self._backoff.left(id_)):
            return left
        try:
            if not self._launchers.exists(id_):  # a launcher that was started without a network goes on without
                await self._launchers.networks.make(id_, driver, uuid)
            link = await self._ensured(id_, pod)
            self._backoff.worked(id_)
        except (LauncherError, AgentError) as error:
            return await self._waiting(id_, pod, error)
        if phase in FINAL_PHASES and not link.active:
            await self._finish(id_, pod, phase)
            return None
        started = (pod.get("status") or {}).get("startTime") or now()
        state = {"running": {"startedAt": started}}
        status = pod_status(
            pod,
            phase="Running",
            address=self._address_of(pod),
            container_state=state,
            restarts=self._restarts_of(id_, pod),
            started_at=started,
        )
        await self._write(pod, status)
        return None

    async def _user(self, id_: str, vmi: Obj, pod: Obj, driver: Driver, plan: LauncherPlan) -> int:
        """Return the user that the launcher of a machine becomes, having made it that user's folder; 0: this one's."""
        confinement = self._launchers.confinement
        if confinement is None or confinement.why_not or shared(vmi["spec"]):  # libvirt shares folders as root alone
            return 0
        self._launchers.make_folder(id_)
        user = await self._ids.user(pod, driver)
        if user:
            for seed in plan.seeds.values():
                await asyncio.to_thread(giving.show_tree, self._probe, Path(seed))
            await asyncio.to_thread(self._launchers.give, id_, user, str(vmi["metadata"]["namespace"]))
        return user

    async def _waiting(self, id_: str, pod: Obj, error: Exception) -> float:
        """Show why a launcher cannot be started now; return when to try again."""
        waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": str(error)[:1000]}}
        status = pod_status(pod, phase="Pending", address=self._address_of(pod), container_state=waiting)
        await self._write(pod, status)
        self._events.event(pod, EventType.WARNING, "Failed", str(error))
        return self._backoff.failed(id_)

    async def _ensured(self, id_: str, pod: Obj) -> Link:
        known = self._launchers.get(id_)
        if known is not None:
            return known
        was_running = (pod.get("status") or {}).get("phase") == "Running"
        before = self._launchers.started
        try:
            link = await self._launchers.ensure(id_)
        except LauncherError:
            self._restarts[id_] = self._restarts_of(id_, pod) + 1
            raise
        if was_running and self._launchers.started != before:
            self._restarts[id_] = self._restarts_of(id_, pod) + 1
            self._events.event(pod, EventType.NORMAL, "Started", "Restarted the launcher; its machine was not touched")
        self._look(owner_uid(pod))
        return link

    def _restarts_of(self, id_: str, pod: Obj) -> int:
        """Return how often the launcher was restarted; what the Pod says counts on after the agent's own restart."""
        said = (pod.get("status") or {}).get("containerStatuses") or [{}]
        return max(self._restarts.get(id_, 0), int(said[0].get("restartCount", 0)))

    async def _finish(self, id_: str, pod: Obj, phase: str) -> None:
        """The machine is over and that is recorded: end the launcher, free its disks, keep its logs."""
        async with self._launchers.lock(id_):
            await self._launchers.quit(id_)
            folder = self._launchers.folder(id_)
            places = [place for place in (folder, self._launchers.workshop(id_)) if place is not None]
            for place, name in itertools.product(places, (DISKS, SCRATCH, RESULT)):
                await asyncio.to_thread(safepath.remove_path, place / name)
        await self._completed(pod, phase)

    async def _completed(self, pod: Obj, phase: str) -> None:
        await self._write(pod, pod_ended(pod, phase, self._address_of(pod)))

    async def _delete(self, id_: str, pod: Obj) -> float | None:
        """Take the machine down as the Pod's deletion asks, let its end be recorded, then remove everything."""
        deadline = pod_deadline(pod) or 0.0
        if self._launchers.exists(id_):
            link = await self._launchers.ensure(id_)
            vmi = self._machine(pod)
            if link.active:
                driver = self._registry.get(made_for(pod))
                return await power_down(link, deadline, graceful=driver is None or driver.graceful_shutdown)
            final = vmi is None or (vmi.get("status") or {}).get("phase") in FINAL_PHASES
            if link.ended and not final and time.time() < deadline + RECORD_SECONDS:
                self._look(owner_uid(pod))
                return 0.5
        async with self._launchers.lock(id_):
            await self._launchers.retire(id_)
        self._restarts.pop(id_, None)
        metadata = pod["metadata"]
        try:
            await self._client.delete(
                PODS, metadata["name"], metadata["namespace"], grace_period_seconds=0, uid=metadata["uid"]
            )
        except ApiError as error:
            if not error.not_found and not error.conflict:
                raise
        return None

    async def _remove_orphan(self, id_: str) -> None:
        if not self._launchers.folder(id_).exists():
            return
        log.info("the Pod of launcher %s is gone; taking its machine down", id_)
        async with self._launchers.lock(id_):
            await self._launchers.retire(id_)
        self._restarts.pop(id_, None)

    async def _write(self, pod: Obj, status: Obj) -> None:
        old = pod.get("status") or {}
        if {**status, "conditions": _plain(status)} == {**old, "conditions": _plain(old)}:
            return
        self._pods.learn(await self._client.update_status(PODS, {**pod, "status": status}))


def _plain(status: Obj) -> list[tuple[str, ...]]:
    """Return conditions without their times, to tell whether a status says anything new."""
    keys = ("type", "status", "reason", "message")
    return [tuple(str(condition.get(key, "")) for key in keys) for condition in status.get("conditions") or []]
