"""Runs the machines that are bound to this Node, once they are the agent's: storage, domain, state, end.

Each reconcile compares the VMI with what its launcher says and takes one step, so it does not matter whether the agent,
the launcher or both were killed in between. What isn't obvious: a machine is made and taken down under the lock of its
folder, because the virtual node may remove that folder when the Pod goes.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Callable

from polyvisor.agent.backoff import StepBackoff
from polyvisor.agent.errors import IMAGE_BACK_OFF, IMAGE_FAILED, AgentError
from polyvisor.agent.launchers.launcher_pods import owner_uid, pod_id, recorded
from polyvisor.agent.launchers.processes import Launchers
from polyvisor.agent.link.connection import LauncherError, LauncherGone, Link
from polyvisor.agent.live import cards, described, dumps, hotplug, media, movable, render, status, vcpus
from polyvisor.agent.live.migration_source import Source
from polyvisor.agent.live.power import power_down, vmi_deadline
from polyvisor.agent.named import named
from polyvisor.agent.network.pods import sources
from polyvisor.agent.node import huge_pages
from polyvisor.agent.node.cpus import CpuSource
from polyvisor.agent.seam import MachinePlatform
from polyvisor.agent.storage import holds
from polyvisor.agent.storage.claims import claims_of
from polyvisor.agent.storage.prepared import Prepared
from polyvisor.api import Obj
from polyvisor.api.launcher_pods import made_for
from polyvisor.api.names import FINAL_PHASES, EventType, Phase, Reason, VmiCondition
from polyvisor.api.resources import DATAVOLUMES, PODS, VMIS
from polyvisor.api.volumes import drives
from polyvisor.domain import CardSource
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.base import Driver
from polyvisor.kube import EventRecorder, Informer, KubeClient, WorkQueue, about

START_SECONDS = 120.0
OVER_SECONDS = 1.0
"""After how long to look again for the end of a machine whose Pod was deleted by force; nothing tells of it."""
START_PAUSED = "Paused"
"""The one value of ``spec.startStrategy``."""
Key = tuple[str, str]
log = logging.getLogger("polyvisor.vmi")


class MachineAgent:
    """Reconciles one VMI at a time, from the moment on that it is the agent's."""

    def __init__(
        self,
        client: KubeClient,
        events: EventRecorder,
        registry: DriverRegistry,
        launchers: Launchers,
        pods: Informer,
        vmis: Informer,
        *,
        node_name: str,
        platform: MachinePlatform,
        cpus: CpuSource,
        guest_report: Callable[[Obj], Obj] = lambda _: {},
        gone: Callable[[str, str], str] = lambda *_: "",
        not_ready: Callable[[Obj], str] = lambda _: "",
        access_outcome: Callable[[Obj], tuple[bool, str] | None] = lambda _: None,
    ) -> None:
        self._client = client
        self._events = events
        self._registry = registry
        self._launchers = launchers
        self._pods = pods
        self._vmis = vmis
        self.node_name = node_name
        self._platform = platform
        self._cpus = cpus
        self._guest_report = guest_report
        self._gone = gone
        self._not_ready = not_ready
        self._access_outcome = access_outcome
        self.queue: WorkQueue[Key] = WorkQueue()
        self.source: Source | None = None
        """What moves machines to other nodes, where there are any."""
        self._holds = holds.Holds(self._here, self._may_run, platform.hostdisks)
        self._plugger = hotplug.Plugger(platform.shelves, self._unfilled, self._holds)
        self._drives = media.Drives(self._plugger)
        self._dumper = dumps.Dumper(self._plugger.shelves, self._holds, self.look)
        self._backoff = StepBackoff()
        pods.on_change(self._pod_changed)
        vmis.on_change(self._vmi_changed)

    def _here(self) -> list[Obj]:
        return [vmi for vmi in self._vmis.items() if (vmi.get("status") or {}).get("nodeName") == self.node_name]

    def _may_run(self, vmi: Obj) -> bool:
        """Whether a machine has a domain; while its launcher is not heard of, whether it may have one."""
        pod = self.pod_of(vmi)
        if pod is None:
            return not all(self._launchers.over(uid) for uid in vmi["status"].get("activePods") or {})
        link = self._launchers.get(pod_id(pod))
        if link is None:
            return bool(vmi["status"].get("phase") == Phase.RUNNING or self._launchers.exists(pod_id(pod)))
        return link.active

    def _vmi_changed(self, old: Obj | None, new: Obj | None) -> None:
        if new is None or (new.get("status") or {}).get("phase") in FINAL_PHASES:
            for uid in self._holds.waiting():
                self._backoff.worked(uid)
                self.look(uid)
        vmi = new or old
        if vmi is not None:
            self.queue.add((vmi["metadata"]["namespace"], vmi["metadata"]["name"]))

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        for pod in self._platform.launchers_of(new or old or {"metadata": {}}):
            self.look(owner_uid(pod))

    def look(self, uid: str) -> None:
        """Look at the machine with this uid soon."""
        for vmi in self._vmis.by_index("uid", uid) if uid else []:
            self.queue.add((vmi["metadata"]["namespace"], vmi["metadata"]["name"]))

    async def stop(self) -> None:
        """End what goes on beside the reconciling."""
        await self._dumper.stop()

    def pod_of(self, vmi: Obj) -> Obj | None:
        """Return the Pod on this node that a machine runs in."""
        pods = [pod for pod in self._pods.by_index("owner", vmi["metadata"]["uid"]) if recorded(pod, vmi)]
        living = [pod for pod in pods if (pod.get("status") or {}).get("phase") not in FINAL_PHASES]
        return next(iter(living or pods), None)

    async def reconcile(self, key: Key) -> float | None:
        """Take the next step with one machine."""
        vmi = self._vmis.get(*key)
        if vmi is None:
            return None
        about.work_with(vmi)
        state = vmi.get("status") or {}
        if state.get("nodeName") != self.node_name or state.get("phase") not in self._platform.phases:
            return None
        pod = self.pod_of(vmi)
        if pod is None:
            over = all(self._launchers.over(uid) for uid in state.get("activePods") or {})
            if not over or await self._has_pod(vmi):
                return OVER_SECONDS
            await self._finish(vmi, Phase.FAILED, "The launcher Pod is gone and the machine with it.")
            return None
        driver = self._registry.get(made_for(pod))
        link = self._launchers.get(pod_id(pod))
        if link is None or driver is None:
            return None  # the virtual node brings the launcher up, then calls again
        try:
            if self.source is not None and await self.source.leads(vmi, pod, link):
                return None
            return await self._step(vmi, pod, link, driver)
        except LauncherGone:
            return None  # likewise
        except (LauncherError, AgentError) as error:
            return await self._failed(vmi, error if isinstance(error, AgentError) else AgentError(str(error)))

    async def _has_pod(self, vmi: Obj) -> bool:
        """Ask the API server whether a machine has a Pod here after all: the local copy may be behind."""
        here = f"spec.nodeName={self.node_name}"
        pods = await self._client.list(PODS, vmi["metadata"]["namespace"], field_selector=here)
        return any(recorded(pod, vmi) for pod in pods)

    async def _step(self, vmi: Obj, pod: Obj, link: Link, driver: Driver) -> float | None:
        if not self._platform.ready(vmi, pod, link):
            return None  # its other containers start, or the controller hands the machine over
        deadline = vmi_deadline(vmi)
        if link.ended:
            self._dumper.forget(vmi["metadata"]["uid"])
            self._holds.forget(vmi["metadata"]["uid"])
            new, message = status.ended(vmi, link.state, driver)
            kind = EventType.WARNING if new["phase"] == Phase.FAILED else EventType.NORMAL
            await self._write(vmi, new)
            self._events.event(vmi, kind, Reason.STOPPED, message)
            if deadline is not None:
                self._events.event(vmi, EventType.NORMAL, Reason.DELETED, "Signaled Deletion")
            return None
        if deadline is not None:
            if not link.active:
                await self._finish(vmi, Phase.SUCCEEDED, "The VirtualMachineInstance was deleted before it started.")
                return None
            asked = link.asked_at
            again = await power_down(link, deadline, graceful=driver.graceful_shutdown)
            if not asked and link.asked_at:
                self._events.event(vmi, EventType.NORMAL, Reason.SHUTTING_DOWN, "Signaled Graceful Shutdown")
            return again
        if link.active:
            return await self._is_running(vmi, pod, link, driver)
        if vmi["status"]["phase"] == Phase.RUNNING:
            await self._finish(vmi, Phase.FAILED, "The domain of the VirtualMachineInstance is gone.")
            return None
        if pod["metadata"].get("deletionTimestamp"):
            return None
        if left := self._backoff.left(vmi["metadata"]["uid"]):
            return left
        await self._start(vmi, pod, link, driver)
        self._backoff.worked(vmi["metadata"]["uid"])
        await self._is_running(vmi, pod, link, driver)
        self._events.event(vmi, EventType.NORMAL, Reason.CREATED, "VirtualMachineInstance defined.")
        self._events.event(vmi, EventType.NORMAL, Reason.STARTED, "VirtualMachineInstance started.")
        if fields := self._platform.without_effect(vmi):
            what = "the guest asks the host's name servers, and there is no DNS of the cluster's on this node"
            self._events.event(vmi, EventType.WARNING, Reason.NO_EFFECT, f"{', '.join(fields)}: no effect, {what}")
        return None

    async def _start(self, vmi: Obj, pod: Obj, link: Link, driver: Driver) -> None:
        async with self._launchers.lock(pod_id(pod)):
            with self._holds.starting(vmi, await claims_of(self._client, vmi)):
                xml = await self.rendered(vmi, pod, link, driver)
                paused = vmi["spec"].get("startStrategy") == START_PAUSED
                await link.request("start", seconds=START_SECONDS, xml=xml, paused=paused)
        self._cpus.changed()

    async def rendered(self, vmi: Obj, pod: Obj, link: Link, driver: Driver) -> str:
        """Make all ready that a machine needs in its Pod; return its domain's XML. Call under the launcher's lock."""
        if link.closed:
            raise LauncherGone("the launcher has ended")
        await asyncio.to_thread(huge_pages.check, vmi["spec"])
        id_, vmi = pod_id(pod), self._platform.at_start(vmi, pod)
        made = await self._platform.prepare(vmi, pod, driver, self._progress(vmi))
        joined = sources(await self._launchers.networks.join(id_, vmi, pod, link, driver))
        own = await self._cpus.given(vmi["spec"], id_, link)
        return await asyncio.to_thread(render.domain_xml, vmi, driver, made, self._launchers.inside(id_), joined, own)

    def _progress(self, vmi: Obj) -> Callable[[str], None]:
        loop = asyncio.get_running_loop()

        def report(text: str) -> None:
            message = text[:1].upper() + text[1:]
            loop.call_soon_threadsafe(self._events.event, vmi, EventType.NORMAL, "Preparing", message)

        return report

    async def access_secrets(self, vmi: Obj) -> dict[str, dict[str, bytes]]:
        """Return those of the Secrets with a machine's access credentials that exist, as they are now."""
        return await self._platform.access_secrets(vmi, self.pod_of(vmi))

    async def _is_running(self, vmi: Obj, pod: Obj, link: Link, driver: Driver) -> float | None:
        holders = self._plugger.shelves.holders(vmi, pod)
        changing = hotplug.due(vmi, holders) or media.due(vmi)
        outcome = await self._plugged(vmi, pod, link, driver) if changing else None
        carded = await self._carded(vmi, pod, link, driver) if cards.due(vmi, driver) else None
        there = cards.shown(vmi, carded)
        topology = await vcpus.settle(vmi, link, driver)
        known = described.described(there) and not changing and not dumps.due(vmi) and carded is None
        found = {} if known else await self._describe(there, pod, link)
        if outcome is not None and found:
            hotplug.tell(vmi, found, outcome, holders)
        if found:
            runner = hotplug.Runner(vmi, pod, driver, link, self._launchers.inside(pod_id(pod)))
            dumps.tell(found, await self._dumper.settle(runner, await claims_of(self._client, vmi)))
        joined = self._launchers.networks.joined(pod_id(pod))
        if joined is None:  # another agent did, whose work is seen through again
            joined = await self._launchers.networks.join(pod_id(pod), there, pod, link, driver)
        kept = await self._kept(there, driver) if found or not movable.is_told(vmi) else None
        new = status.running(there, link.state, link.hello, driver, found, self._not_ready(vmi), kept) | topology
        for name, (reason, message) in carded.troubles.items() if carded else ():
            status.set_condition(new, VmiCondition.SYNCHRONIZED, "False", reason, f"interface {name}: {message}")
        why = self._gone(driver.name, str((new.get("hypervisor") or {}).get("virtType") or ""))
        status.hypervisor_gone(new, f"{driver.title} no longer works on node {self.node_name}: {why}" if why else "")
        status.access(new, self._access_outcome(vmi))
        status.networked(new, joined, pod, self._launchers.networks.addresses(pod_id(pod), pod))
        status.guest(new, there, bool(link.state.get("agent")), self._guest_report(vmi))
        await self._write(vmi, new)
        if (outcome is not None and (outcome.troubles or outcome.leaving)) or (carded and not carded.settled):
            return hotplug.LOOK_SECONDS
        return dumps.LOOK_SECONDS if dumps.waiting(new) else None

    async def _kept(self, vmi: Obj, driver: Driver) -> list[movable.Blocker]:
        alone = movable.STANDALONE if self.source is None else ""
        return movable.blockers(vmi, driver, await claims_of(self._client, vmi), alone)

    async def _unfilled(self, claim: Obj) -> str:
        """Return why a claim does not hold yet what its DataVolume asks for, if it has one."""
        owners = claim["metadata"].get("ownerReferences") or []
        name = next((owner["name"] for owner in owners if owner.get("kind") == DATAVOLUMES.kind), "")
        here = claim["metadata"]["namespace"]
        volume = (await named(self._client, DATAVOLUMES, [name], here)).get(name) if name else None
        phase = ((volume or {}).get("status") or {}).get("phase")
        return "" if volume is None or phase == "Succeeded" else f"DataVolume {name} is being filled ({phase})"

    async def _plugged(self, vmi: Obj, pod: Obj, link: Link, driver: Driver) -> hotplug.Outcome:
        """Attach and detach disks as the spec of the running machine wants it."""
        id_ = pod_id(pod)
        async with self._launchers.lock(id_):
            if link.closed:
                raise LauncherGone("the launcher has ended")
            runner = hotplug.Runner(vmi, pod, driver, link, self._launchers.inside(id_))
            claims = await claims_of(self._client, vmi)
            outcome = await self._plugger.settle(runner, claims)
            if drives(vmi["spec"]):
                discs = await self._drives.settle(runner, claims)
                outcome.troubles |= discs.troubles
                outcome.leaving |= discs.leaving
        for name, trouble in outcome.troubles.items():
            if not trouble.waits:
                self._events.event(vmi, EventType.WARNING, trouble.reason, f"volume {name}: {trouble.message}")
        return outcome

    async def _carded(self, vmi: Obj, pod: Obj, link: Link, driver: Driver) -> cards.Outcome:
        """Attach, detach and switch network cards as the spec of the running machine wants it."""
        id_ = pod_id(pod)

        async def join(there: Obj) -> dict[str, CardSource]:
            return sources(await self._launchers.networks.join(id_, there, pod, link, driver))

        async with self._launchers.lock(id_):
            if link.closed:
                raise LauncherGone("the launcher has ended")
            outcome = await cards.settle(vmi, driver, link, self._launchers.inside(id_), join)
        for name, (reason, message) in outcome.troubles.items():
            self._events.event(vmi, EventType.WARNING, reason, f"interface {name}: {message}")
        return outcome

    async def _describe(self, vmi: Obj, pod: Obj, link: Link) -> Obj:
        """Ask the launcher what the domain is like; one of a release that does not tell is left in peace."""
        try:
            xml = str((await link.request("describe")).get("xml"))
        except LauncherGone:
            raise
        except LauncherError as error:
            log.info("%s/%s: %s", vmi["metadata"]["namespace"], vmi["metadata"]["name"], error)
            return {}
        found = await self._platform.prepared(pod) or Prepared()
        return described.describe(vmi, xml, found.root_volume, await claims_of(self._client, vmi), found.sizes)

    async def _finish(self, vmi: Obj, phase: Phase, message: str) -> None:
        new = copy.deepcopy(vmi.get("status") or {})
        status.finish(new, phase)
        await self._write(vmi, new)
        kind = EventType.NORMAL if phase == Phase.SUCCEEDED else EventType.WARNING
        self._events.event(vmi, kind, Reason.STOPPED, message)

    async def _failed(self, vmi: Obj, error: AgentError) -> float | None:
        """Show why a machine cannot be started; try again, unless that is pointless."""
        new, message, reason = copy.deepcopy(vmi.get("status") or {}), str(error), error.reason
        status.take_over(new)
        if reason == IMAGE_FAILED and error.retry and self._backoff.failures(vmi["metadata"]["uid"]):
            message, reason = f"Back-off pulling image: {message}", IMAGE_BACK_OFF
        log.warning("%s/%s: %s", vmi["metadata"]["namespace"], vmi["metadata"]["name"], message)
        status.set_condition(new, VmiCondition.SYNCHRONIZED, "False", reason, message)
        if not error.retry and new.get("phase") == Phase.SCHEDULED:
            status.finish(new, Phase.FAILED, reason, message)
        await self._write(vmi, new)
        self._events.event(vmi, EventType.WARNING, reason, message)
        return self._backoff.failed(vmi["metadata"]["uid"]) if error.retry else None

    async def _write(self, vmi: Obj, new: Obj) -> None:
        status.keep_trouble(vmi.get("status") or {}, new)
        if new != (vmi.get("status") or {}):
            self._vmis.learn(await self._client.update_status(VMIS, {**vmi, "status": new}))
