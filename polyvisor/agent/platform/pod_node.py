"""The launcher Pods of a real node: the kubelet runs them, and this brings each launcher together with the agent.

A launcher waits in its Pod for its plan. It gets it once the controller has recorded the Pod (:mod:`.launcher_pods`)
and the kubelet has made its folder, then it is connected to, and its machine is looked at. The kubelet tells of a
container up to a second after its start, so nothing waits for that word: for some seconds the launcher is tried again
and again. A Pod that is being deleted has its
machine shut down first: the launcher leaves the kubelet's SIGTERM to the agent, who can ask the guest, and ends when
the machine has ended; the kubelet's own deadline is the last word.
What isn't obvious: a Pod ends with its last container. Those that hold images know nothing of the machine, so the agent
ends them when the launcher has ended, however that came about.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from polyvisor.agent.backoff import StepBackoff
from polyvisor.agent.errors import AgentError
from polyvisor.agent.identity import domain_name, domain_uuid
from polyvisor.agent.launchers import launcher_pods
from polyvisor.agent.launchers.launcher_pods import owner_uid, pod_id
from polyvisor.agent.launchers.machine_plans import plan_of
from polyvisor.agent.link import containers
from polyvisor.agent.link.connection import LauncherError, LauncherGone, Link
from polyvisor.agent.live.power import pod_deadline, power_down
from polyvisor.agent.platform.pod_launchers import PodLaunchers
from polyvisor.agent.platform.virtual_node import RECORD_SECONDS
from polyvisor.agent.storage.kept import link_in_pod
from polyvisor.api import Obj
from polyvisor.api.launcher_pods import made_for
from polyvisor.api.names import COMPUTE_CONTAINER, FINAL_PHASES, LAUNCHER_FOLDER, EventType
from polyvisor.api.reading import read_status
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.base import Driver, LauncherPlan
from polyvisor.kube import EventRecorder, Informer, WorkQueue

BRISK_SECONDS, BRISK_PAUSE = 5.0, 0.05
"""How long a launcher is expected to come up at any moment, and the pause between two tries; nothing tells of it."""


class PodNode:
    """Reconciles one launcher Pod at a time, by the id that the agent has for it."""

    def __init__(
        self,
        events: EventRecorder,
        registry: DriverRegistry,
        launchers: PodLaunchers,
        pods: Informer,
        vmis: Informer,
        *,
        look: Callable[[str], None],
        seeded: Callable[[Driver, Obj, LauncherPlan], LauncherPlan] = lambda _driver, _pod, plan: plan,
        moved: Callable[[Obj, Obj, Link], Awaitable[bool]] | None = None,
    ) -> None:
        """``moved`` sees to launchers between which a machine moves, and returns whether one was such."""
        self._events = events
        self._registry = registry
        self._launchers = launchers
        self._pods = pods
        self._vmis = vmis
        self._look = look
        self._seeded = seeded
        self._moved = moved or _not_moved
        self._backoff = StepBackoff()
        self._expected: dict[tuple[str, bool], float] = {}
        self.queue: WorkQueue[str] = WorkQueue()
        pods.on_change(self._pod_changed)
        vmis.on_change(self._vmi_changed)

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        for pod in (old, new):
            if pod is not None and owner_uid(pod):
                self.queue.add(pod_id(pod))

    def _vmi_changed(self, old: Obj | None, new: Obj | None) -> None:
        for pod in self._pods.by_index("owner", (new or old or {})["metadata"]["uid"]):
            self.queue.add(pod_id(pod))

    def adopt(self) -> None:
        """Look at every launcher Pod; call once the informers are synced."""
        for pod in self._pods.items():
            self._pod_changed(None, pod)

    async def reconcile(self, id_: str) -> float | None:
        """Bring one launcher and the agent together, or let go of it."""
        pod = next(iter(self._pods.by_index("id", id_)), None)
        if pod is None or read_status(pod).get("phase") in FINAL_PHASES:
            await self._launchers.retire(id_)
            self._forget(id_)
            return None
        vmi = next(iter(self._vmis.by_index("uid", owner_uid(pod))), None)
        link = self._launchers.get(id_)
        if link is None and vmi is not None and not launcher_pods.recorded(pod, vmi):
            return None  # anybody's, or not recorded yet; the machine's next change brings us back
        if compute_ended(pod):
            if vmi is None and link is None:
                return None
            await asyncio.to_thread(end_others, pod)
            return 2.0
        driver = self._registry.get(made_for(pod))
        if driver is None:
            return None
        if link is None:
            if vmi is None:
                return 2.0 if container_runs(pod) else None  # on its way, or gone and the Pod will follow
            if left := self._backoff.left(id_):
                return left
            try:
                link = await self._reached(id_, pod, vmi, driver)
            except (AgentError, LauncherError, OSError) as error:
                return self._not_reached(id_, pod, error)
            self._backoff.worked(id_)
            self._forget(id_)
            self._look(owner_uid(pod))
        if vmi is not None and await self._moved(vmi, pod, link):
            return None
        phase = ((vmi or {}).get("status") or {}).get("phase")
        deadline = pod_deadline(pod)
        if deadline is not None and link.active:
            return await power_down(link, deadline, graceful=driver.graceful_shutdown)
        recorded = vmi is None or phase in FINAL_PHASES
        if not link.active and (recorded or (deadline is not None and time.time() > deadline + RECORD_SECONDS)):
            await self._launchers.quit(id_)
        elif deadline is not None:
            self._look(owner_uid(pod))
            return 0.5
        return None

    async def _reached(self, id_: str, pod: Obj, vmi: Obj, driver: Driver) -> Link:
        """Give a launcher its plan, if it has none, and connect to it.

        What is cheap to see comes first: this is tried again and again while the kubelet brings many Pods up.
        """
        if not self._launchers.known(id_):
            if not self._launchers.is_made(id_):
                raise LauncherGone("the kubelet has not made its folder yet")
            uuid = domain_uuid(vmi)
            plan = plan_of(driver.launcher(Path(LAUNCHER_FOLDER)), vmi["spec"], pod["spec"].get("nodeName") or "")
            plan = await asyncio.to_thread(self._seeded, driver, pod, plan)
            plan = await asyncio.to_thread(link_in_pod, vmi, pod, plan, uuid)
            name = driver.domain_name(domain_name(vmi), uuid)
            self._launchers.write_plan(id_, plan, name=name, uuid=uuid, driver=driver.name)
        if not self._launchers.listens(id_):
            raise LauncherGone("it does not listen yet")
        return await self._launchers.ensure(id_)

    def _not_reached(self, id_: str, pod: Obj, error: Exception) -> float | None:
        """Return after how many seconds to try again; None if the kubelet will call us, when the container runs."""
        runs, now = container_runs(pod), time.monotonic()
        if now < self._expected.setdefault((id_, runs), now) + BRISK_SECONDS:
            return BRISK_PAUSE
        if not runs:
            return None
        pause = self._backoff.failed(id_)
        if pause > 2.0:  # a launcher that is still starting is no news
            self._events.event(pod, EventType.WARNING, "Failed", f"its launcher cannot be reached: {error}")
        return pause

    def _forget(self, id_: str) -> None:
        for runs in (False, True):
            self._expected.pop((id_, runs), None)


async def _not_moved(_vmi: Obj, _pod: Obj, _link: Link) -> bool:
    return False


def compute_ended(pod: Obj) -> bool:
    """Whether the launcher's container is over."""
    found = read_status(pod).get("containerStatuses") or []
    return any(one.get("name") == COMPUTE_CONTAINER and "terminated" in (one.get("state") or {}) for one in found)


def end_others(pod: Obj) -> None:
    """End the containers that only live as long as the launcher does, so that the Pod ends."""
    for container in pod["spec"].get("containers") or []:
        if container["name"] != COMPUTE_CONTAINER and (id_ := containers.container_id(pod, container["name"])):
            containers.end(str(pod["metadata"]["uid"]), id_)


def container_runs(pod: Obj) -> bool:
    """Whether the launcher's container has been started and goes on."""
    found = read_status(pod).get("containerStatuses") or []
    return any(one.get("name") == COMPUTE_CONTAINER and "running" in (one.get("state") or {}) for one in found)
