"""The machines of one endpoint: from a Pod bound to its Node to a domain on its host, and to the machine's end.

Each reconcile compares the VirtualMachineInstance with what the host says now and takes one step, so it does not matter
what was interrupted in between. Nothing is concluded from silence: while the host cannot be reached, a machine is shown
as not known, and nothing is started, ended or let go of. Before anything is made on the host a finalizer holds the
machine's object, and goes when the domain is gone or the administrator says so.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from collections.abc import Callable
from pathlib import Path

from polyvisor.agent.backoff import StepBackoff
from polyvisor.agent.errors import AgentError
from polyvisor.agent.images.store import ImageStore
from polyvisor.agent.launchers.launcher_pods import marked
from polyvisor.agent.link.connection import LauncherError
from polyvisor.agent.live import described, status
from polyvisor.agent.live.power import ASK_AGAIN_SECONDS, pod_deadline, vmi_deadline
from polyvisor.agent.platform.endpoint import telling
from polyvisor.agent.platform.endpoint.access import console_log
from polyvisor.agent.platform.endpoint.bringing import Bringer
from polyvisor.agent.platform.endpoint.guests import GuestLink, agent_call, said
from polyvisor.agent.platform.endpoint.inventory import Domain, domain_of
from polyvisor.agent.platform.endpoint.keeper import Keeper
from polyvisor.agent.platform.endpoint.link import HostError
from polyvisor.agent.platform.endpoint.plan import Observed
from polyvisor.agent.platform.endpoint.pods import HostPods
from polyvisor.agent.platform.endpoint.starting import Starter, is_its, owner_of
from polyvisor.api import Obj
from polyvisor.api.endpoint_names import (
    ENDPOINT_FINALIZER,
    FENCED_ANNOTATION,
    UNMANAGE_ANNOTATION,
    node_of_endpoint,
)
from polyvisor.api.launcher_pods import made_for
from polyvisor.api.names import FINAL_PHASES, EventType, Phase, Reason, VmiCondition
from polyvisor.api.reading import phase_of
from polyvisor.api.resources import VMIS
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.at_endpoint import at_endpoint
from polyvisor.drivers.base import Driver
from polyvisor.kube import ApiError, EventRecorder, Informer, KubeClient, WorkQueue, about, key_of

STARTING_LOOK_SECONDS = 3.0
ADDRESS_LOOK_SECONDS = 30.0
"""How often a running guest's addresses are asked for: soon while none is known, else now and then."""
CONSOLE_LOOK_SECONDS = 30.0
"""When a console that could not be opened is tried again."""
Key = tuple[str, str]
log = logging.getLogger("polyvisor.endpoints")


class Machines:
    """Reconciles one machine at a time. ``images`` gives the store of images, once there is one.

    ``node`` is the client for what a kubelet reads and writes, if that is another one.
    """

    def __init__(
        self,
        client: KubeClient,
        events: EventRecorder,
        drivers: DriverRegistry,
        keeper: Keeper,
        pods: Informer,
        vmis: Informer,
        vms: Informer,
        *,
        cluster: str,
        folder: Path,
        images: Callable[[], ImageStore | None],
        address: str,
        node: KubeClient | None = None,
    ) -> None:
        self._client = client
        self._events = events
        self._drivers = drivers
        self._keeper = keeper
        self._pods = pods
        self._vmis = vmis
        self._cluster = cluster
        self._bringer = Bringer(keeper, folder)
        self._starter = Starter(
            client, events, keeper, vmis, vms, self._bringer, self._write, cluster=cluster, images=images, node=node
        )
        self._host_pods = HostPods(node or client, pods, lambda: address)
        self._backoff = StepBackoff()
        self._asked: dict[str, tuple[float, int]] = {}
        self._seen: Observed | None = None
        self.node = node_of_endpoint(keeper.endpoint["metadata"]["name"])
        self.queue: WorkQueue[Key] = WorkQueue()

    @property
    def name(self) -> str:
        """The endpoint's name."""
        return str(self._keeper.endpoint["metadata"]["name"])

    def running(self) -> list[Obj]:
        """Return the machines of this endpoint that run."""
        return [vmi for vmi in self._vmis.by_index("node", self.node) if phase_of(vmi) == Phase.RUNNING]

    async def ask(self, operation: str, seconds: float) -> Obj:
        """Ask the host for something of all machines. Raises :class:`HostError`."""
        return await self._keeper.ask(operation, seconds)

    def observed(self, seen: Observed) -> None:
        """Look at the machines of which the host tells something new, or all where it came or went."""
        before, self._seen = self._seen, seen
        if before is None or before.failure != seen.failure:
            changed = None
        else:
            old = {one.uuid: one for one in before.domains or ()}
            new = {one.uuid: one for one in seen.domains or ()}
            changed = {uuid for uuid in old.keys() | new.keys() if old.get(uuid) != new.get(uuid)}
        for vmi in self._vmis.by_index("node", self.node):
            if changed is None or telling.uuid_of(vmi) in changed:
                self.queue.add(key_of(vmi))
        for pod in self._pods.by_index("node", self.node) if changed is None else ():
            self.pod_changed(pod)

    def pod_changed(self, pod: Obj) -> None:
        """Look at the machine that a Pod of this Node belongs to."""
        owner = next((one for one in pod["metadata"].get("ownerReferences") or [] if one["kind"] == VMIS.kind), None)
        self.queue.add((pod["metadata"]["namespace"], owner["name"] if owner else f"/{pod['metadata']['name']}"))

    async def reconcile(self, key: Key) -> float | None:
        """Take the next step with one machine, or with a Pod that is none's (its name begins with a slash)."""
        namespace, name = key
        if name.startswith("/"):
            await self._foreign(namespace, name[1:])
            return None
        vmi = self._vmis.get(namespace, name)
        if vmi is None:
            await self._orphans(namespace, name)
            return None
        about.work_with(vmi)
        pods = [pod for pod in self._pods.by_index("owner", vmi["metadata"]["uid"]) if marked(pod, vmi)]
        pods = [pod for pod in pods if pod["spec"].get("nodeName") == self.node]
        if not pods and (vmi.get("status") or {}).get("nodeName") != self.node:
            return None
        living = [pod for pod in pods if (pod.get("status") or {}).get("phase") not in FINAL_PHASES]
        pod = next(iter(living or pods), None)
        try:
            return await self._step(vmi, pod)
        except HostError as error:
            if self._is_away(error):
                return await self._away(vmi)
            return await self._failed(vmi, AgentError(f"the host of endpoint {self.name}: {error}"))
        except AgentError as error:
            return await self._failed(vmi, error)

    async def _foreign(self, namespace: str, name: str) -> None:
        pod = self._pods.get(namespace, name)
        if pod is None or pod["spec"].get("nodeName") != self.node:
            return
        await (self._host_pods.remove(pod) if _deleting(pod) else self._host_pods.refuse(pod))

    async def _orphans(self, namespace: str, name: str) -> None:
        """Let the Pods of a machine go whose object is gone: that waited for the domain's end."""
        for pod in self._pods.by_index("node", self.node):
            owners = [one["name"] for one in pod["metadata"].get("ownerReferences") or [] if one["kind"] == VMIS.kind]
            if pod["metadata"]["namespace"] == namespace and name in owners and _deleting(pod):
                await self._host_pods.remove(pod)

    async def _step(self, vmi: Obj, pod: Obj | None) -> float | None:
        phase = (vmi.get("status") or {}).get("phase") or Phase.PENDING
        if FENCED_ANNOTATION in (vmi["metadata"].get("annotations") or {}):
            return await self._fenced(vmi, pod)
        if self._keeper.seen.failure is not None or self._keeper.seen.domains is None:
            return await self._away(vmi)
        if phase in FINAL_PHASES or (_deleting(vmi) and phase in (Phase.PENDING, Phase.SCHEDULING)):
            return await self._clean(vmi, pod)
        if phase in (Phase.PENDING, Phase.SCHEDULING):
            if pod is not None and not _deleting(pod):
                await self._host_pods.running(pod)
            elif pod is not None:
                await self._host_pods.remove(pod)
            return None
        driver = self._drivers.get(made_for(pod)) if pod is not None else self._driver_of(vmi)
        if driver is None:
            return None
        driver = at_endpoint(driver)
        domain = await self._domain(vmi)
        if domain is not None and domain.active and self._is_its(domain, vmi):
            deadline = vmi_deadline(vmi) or (pod_deadline(pod) if pod is not None else None)
            if deadline is not None:
                return await self._power_down(vmi, domain, driver, deadline)
            return await self._is_running(vmi, pod, domain, driver)
        if phase == Phase.RUNNING or _deleting(vmi) or (pod is not None and _deleting(pod)):
            return await self._over(vmi, pod, domain, driver)
        if domain is not None and self._is_its(domain, vmi) and not domain.adopted and domain.ending in telling.ENDS:
            return await self._over(vmi, pod, domain, driver)
        if left := self._backoff.left(vmi["metadata"]["uid"]):
            return left
        await self._starter.start(vmi, pod, domain, driver)
        self._backoff.worked(vmi["metadata"]["uid"])
        return 0.0

    def _driver_of(self, vmi: Obj) -> Driver | None:
        return self._drivers.get(str((vmi["status"].get("hypervisor") or {}).get("driver")))

    def _is_its(self, domain: Domain, vmi: Obj) -> bool:
        return is_its(domain, vmi, self._cluster)

    def _owner(self, vmi: Obj) -> dict[str, str]:
        return owner_of(vmi, self._cluster)

    async def _domain(self, vmi: Obj) -> Domain | None:
        """Return the machine's domain as the host has it now, None if it has none."""
        try:
            return domain_of(await self._keeper.ask("state", uuid=telling.uuid_of(vmi)))
        except HostError as error:
            if error.code == "no-domain":
                return None
            raise

    async def _is_running(self, vmi: Obj, pod: Obj | None, domain: Domain, driver: Driver) -> float | None:
        without_console = await self._follow(vmi)
        found: Obj = {}
        if not described.described(vmi):
            told = await self._keeper.ask("describe", uuid=domain.uuid)
            sizes = self._starter.sizes.get(vmi["metadata"]["uid"], {})
            found = described.describe(vmi, str(told.get("xml") or ""), "", {}, sizes)
        new = telling.running(vmi, domain, driver, found, self._keeper.seen.host, self.name)
        addresses = await self._keeper.ask("addresses", uuid=domain.uuid) if telling.interfaces(vmi) else {}
        shown = telling.addressed(new, vmi, self._keeper.endpoint, addresses.get("interfaces"))
        status.guest(new, vmi, domain.agent, await self._said(vmi, domain, driver))
        if without_console:
            status.set_condition(new, VmiCondition.SYNCHRONIZED, "False", Reason.SYNC_FAILED, without_console)
        await self._write(vmi, new)
        if pod is not None:
            known = await self._keeper.ask("addresses", uuid=domain.uuid, guest=False) if shown else {}
            address = telling.of_host(self._now(vmi), self._keeper.endpoint, known.get("interfaces"))
            await self._host_pods.running(pod, address)
        if not telling.interfaces(vmi):
            return CONSOLE_LOOK_SECONDS if without_console or agent_call(driver) else None
        return ADDRESS_LOOK_SECONDS if shown else STARTING_LOOK_SECONDS

    async def _said(self, vmi: Obj, domain: Domain, driver: Driver) -> Obj:
        """Return what the agent inside a guest says, nothing where there is none or it does not answer."""
        if not domain.agent or not (call := agent_call(driver)):
            return {}
        try:
            return await said(GuestLink(self._keeper, self._owner(vmi), call), vmi)
        except LauncherError as error:
            log.info("%s/%s: the guest's agent: %s", vmi["metadata"]["namespace"], vmi["metadata"]["name"], error)
            return {}

    async def _follow(self, vmi: Obj) -> str:
        """Have the console of a guest that runs be read; return why it is not. The guest runs without it, too."""
        try:
            await self._keeper.ask("follow", **self._owner(vmi))
        except HostError as error:
            if self._is_away(error):
                raise
            why = f"the console cannot be opened: {error}"
            known = vmi["status"].get("conditions") or []
            if not any(one["type"] == VmiCondition.SYNCHRONIZED and one.get("message") == why for one in known):
                log.warning("%s/%s: %s", vmi["metadata"]["namespace"], vmi["metadata"]["name"], why)
                self._events.event(vmi, EventType.WARNING, Reason.SYNC_FAILED, why)
            return why
        return ""

    def _is_away(self, error: HostError) -> bool:
        """Whether an error means that the host cannot be reached, not that it refused."""
        return self._keeper.seen.failure is not None or error.code in ("not-connected", "ended", "no-answer")

    async def _power_down(self, vmi: Obj, domain: Domain, driver: Driver, deadline: float) -> float:
        """Take one step towards a domain that is down; return after how many seconds to take the next."""
        uid, owner = vmi["metadata"]["uid"], self._owner(vmi)
        if _is_let_go(vmi):
            await self._keeper.ask("unmark", **owner)
            return 0.0
        left = deadline - time.time()
        if left <= 0 or not driver.graceful_shutdown:
            await self._keeper.ask("destroy", **owner)
            return 0.5
        asked, step = self._asked.get(uid, (0.0, 0))
        if time.monotonic() - asked >= ASK_AGAIN_SECONDS:
            ways = list(driver.launcher(Path("/nonexistent")).shutdown)
            try:
                told = await self._keeper.ask("shutdown", **owner, ways=ways, step=step % max(len(ways), 1))
            except HostError as error:
                if self._keeper.seen.failure is not None:
                    raise
                log.info("%s/%s: %s", vmi["metadata"]["namespace"], vmi["metadata"]["name"], error)
                return min(1.0, max(left, 0.05))
            if not asked:
                self._events.event(vmi, EventType.NORMAL, Reason.SHUTTING_DOWN, "Signaled Graceful Shutdown")
            step = told["step"] if isinstance(told.get("step"), int) else 0
            self._asked[uid] = time.monotonic(), step
        return max(0.05, min(ASK_AGAIN_SECONDS, left))

    async def _over(self, vmi: Obj, pod: Obj | None, domain: Domain | None, driver: Driver) -> float | None:
        """Record how the machine ended, then take away what is left of it."""
        new, message = telling.ended(vmi, domain, driver)
        if _is_let_go(vmi):
            new["phase"], message = Phase.SUCCEEDED, "The domain was let go of, and is as it was on its host."
        await self._write(vmi, new)
        kind = EventType.WARNING if new["phase"] == Phase.FAILED else EventType.NORMAL
        self._events.event(vmi, kind, Reason.STOPPED, message)
        return await self._clean(self._now(vmi), pod)

    async def _clean(self, vmi: Obj, pod: Obj | None) -> float | None:
        """Take away what is left on the host of a machine that is over, then let go of its objects."""
        uid = vmi["metadata"]["uid"]
        if ENDPOINT_FINALIZER in (vmi["metadata"].get("finalizers") or []):
            domain = await self._domain(vmi)
            if domain is not None and self._is_its(domain, vmi):
                if domain.active and not _is_let_go(vmi):
                    await self._keeper.ask("destroy", **self._owner(vmi))
                if not domain.adopted and not _is_let_go(vmi):
                    await self._keeper.ask("undefine", **self._owner(vmi))
                elif _deleting(vmi):
                    await self._keeper.ask("unmark", **self._owner(vmi))
            if not _is_let_go(vmi):  # else the domain has its disks still
                await self._bringer.remove(uid)
        self._asked.pop(uid, None)
        self._starter.sizes.pop(uid, None)
        self._backoff.worked(uid)
        await self._let_go(vmi, pod)
        return None

    async def _let_go(self, vmi: Obj, pod: Obj | None) -> None:
        if pod is not None and _deleting(pod):
            await self._host_pods.remove(pod)
        elif pod is not None:
            await self._host_pods.over(pod, phase_of(vmi) or Phase.FAILED)
        metadata = vmi["metadata"]
        if _deleting(vmi) and ENDPOINT_FINALIZER in (metadata.get("finalizers") or []):
            rest = [one for one in metadata["finalizers"] if one != ENDPOINT_FINALIZER]
            body = {"metadata": {"finalizers": rest, "resourceVersion": metadata["resourceVersion"]}}
            try:
                await self._client.patch(VMIS, metadata["name"], body, metadata["namespace"])
            except ApiError as error:
                if not error.not_found:
                    raise
            await asyncio.to_thread(self._forget_log, metadata["uid"])

    def _forget_log(self, uid: str) -> None:
        for ending in ("", ".1"):
            path = console_log(self._keeper.folder, uid)
            path.with_name(f"{path.name}{ending}").unlink(missing_ok=True)

    async def _fenced(self, vmi: Obj, pod: Obj | None) -> float | None:
        """Believe the administrator that the guest does not run: end the machine, whatever is on the host."""
        if (vmi.get("status") or {}).get("phase") not in FINAL_PHASES:
            new = copy.deepcopy(vmi.get("status") or {})
            message = f"fenced: an administrator has said that the guest on endpoint {self.name} does not run"
            status.finish(new, Phase.FAILED, "Fenced", message)
            await self._write(vmi, new)
            self._events.event(vmi, EventType.WARNING, Reason.STOPPED, message)
        await self._let_go(self._now(vmi), pod)
        return None

    async def _away(self, vmi: Obj) -> float | None:
        """Show that nobody can tell how the guest is. It is looked at again when the host is back."""
        failure = self._keeper.seen.failure
        new = telling.away(vmi, self.name, failure.message if failure else "the host is not connected yet")
        await self._write(vmi, new)
        return None

    async def _failed(self, vmi: Obj, error: AgentError) -> float | None:
        """Show why a machine cannot be started; try again, unless that is pointless."""
        vmi = self._now(vmi)
        new = copy.deepcopy(vmi.get("status") or {})
        log.warning("%s/%s: %s", vmi["metadata"]["namespace"], vmi["metadata"]["name"], error)
        status.set_condition(new, VmiCondition.SYNCHRONIZED, "False", error.reason, str(error))
        if not error.retry and new.get("phase") == Phase.SCHEDULED:
            status.finish(new, Phase.FAILED, error.reason, str(error))
        await self._write(vmi, new)
        self._events.event(vmi, EventType.WARNING, error.reason, str(error))
        return self._backoff.failed(vmi["metadata"]["uid"]) if error.retry else None

    def _now(self, vmi: Obj) -> Obj:
        """Return the machine as it was last written."""
        return self._vmis.get(vmi["metadata"]["namespace"], vmi["metadata"]["name"]) or vmi

    async def _write(self, vmi: Obj, new: Obj) -> None:
        vmi = self._now(vmi)
        if new != (vmi.get("status") or {}):
            self._vmis.learn(await self._client.update_status(VMIS, {**vmi, "status": new}))


def _is_let_go(vmi: Obj) -> bool:
    """Whether a machine's domain stays on the host as it is, and only its objects go."""
    return (vmi["metadata"].get("annotations") or {}).get(UNMANAGE_ANNOTATION) == "true" and _deleting(vmi)


def _deleting(obj: Obj) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))
