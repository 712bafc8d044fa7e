"""The node agent as a whole: what runs, in which order it starts, and what others may ask of it.

The order matters once: informers are synced before any folder is looked at, else a launcher whose Pod was not listed
yet would be taken for an orphan and its machine destroyed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

from polyvisor.agent.files import logs
from polyvisor.agent.guests import agents
from polyvisor.agent.guests.access import AccessKeeper
from polyvisor.agent.images.registry import Registries
from polyvisor.agent.images.store import ImageStore
from polyvisor.agent.imports.filling import Fetch
from polyvisor.agent.imports.importing import Importing, importing_here
from polyvisor.agent.launchers.confinement import Confinement
from polyvisor.agent.launchers.launcher_pods import owner_uid, pod_id
from polyvisor.agent.link.connection import LauncherError, LauncherGone, Link, open_console
from polyvisor.agent.link.descriptors import Readers
from polyvisor.agent.link.streams import ByteStream, Connect, Screens, Stream, UsbSlots, port_of, screenshot
from polyvisor.agent.live import paused
from polyvisor.agent.live.power import power_down
from polyvisor.agent.live.probes import ProbeKeeper
from polyvisor.agent.live.render import USB_SLOTS
from polyvisor.agent.live.statistics import Statistics
from polyvisor.agent.node.cpus import CpuSource
from polyvisor.agent.node.probing import gone
from polyvisor.agent.platform.base import Parts, Platform, controller
from polyvisor.agent.platform.kubelet import Kubelet
from polyvisor.agent.platform.moves import Moves
from polyvisor.agent.platform.standalone import Standalone
from polyvisor.agent.settings import Settings
from polyvisor.agent.storage.claims import ClaimKeeper
from polyvisor.agent.storage.sources import Places
from polyvisor.agent.vmi import MachineAgent
from polyvisor.api import Obj
from polyvisor.api.reading import read_status
from polyvisor.api.resources import PODS, PVCS, VMIS
from polyvisor.drivers import DriverRegistry
from polyvisor.kube import EventRecorder, Informer, KubeClient

COMPONENT = "virt-handler"
WORKERS = 4
ASKERS = 16
"""Workers that do nothing but wait for launchers and guests, so that a few slow ones do not keep them all."""
PROBERS = 32
"""How many probes may wait for their guests' answers at a time."""
RESYNC_SECONDS = 300.0
OPERATIONS = {
    "pause": "pause",
    "unpause": "resume",
    "softreboot": "reboot",
    "reset": "reset",
    "freeze": "freeze",
    "unfreeze": "thaw",
}
"""What can be done to a machine, by KubeVirt's word, and the launcher's word for it."""
log = logging.getLogger("polyvisor.agent")


class Agent:
    """One node's agent. :meth:`run` is its life; the other methods answer while it runs."""

    def __init__(self, client: KubeClient, registry: DriverRegistry, settings: Settings) -> None:
        settings = settings.resolved()
        state = settings.state
        self._client = client
        self._registry = registry
        self._settings = settings
        self._images = ImageStore(state / "images", state / "cache", Registries(state / "pulled", self._insecure))
        hostdisks = settings.hostdisks or state / "hostdisks"
        self._places = Places(self._images, state / "volumes", hostdisks, settings.host_disk_limit)
        self._events = EventRecorder(client, COMPONENT, settings.node_name)
        self._pods = Informer(
            client, PODS, field_selector=f"spec.nodeName={settings.node_name}", resync_seconds=RESYNC_SECONDS
        )
        self._vmis = Informer(client, VMIS, resync_seconds=RESYNC_SECONDS)
        self._claims = Informer(client, PVCS, resync_seconds=RESYNC_SECONDS)
        self._claim_keeper = ClaimKeeper(
            client, self._claims, self._pods, self._vmis, state / "volumes", at_once=settings.imports
        )
        self.fetch: Fetch = lambda *_: ""  # brings disks of claims on endpoints' hosts
        self.importing: Importing | None = None  # fills DataVolumes, if this agent does
        if settings.imports:
            what = client, self._events, self._claims, self._claim_keeper, self._images, state, self._vmis
            self.importing = importing_here(*what, self._link_of, lambda *asked: self.fetch(*asked))
        self._pods.add_index("id", lambda pod: [pod_id(pod)])
        self._pods.add_index("owner", lambda pod: [owner_uid(pod)])
        self._vmis.add_index("uid", lambda vmi: [vmi["metadata"]["uid"]])
        parts = Parts(
            client=client,
            events=self._events,
            registry=registry,
            settings=settings,
            images=self._images,
            places=self._places,
            pods=self._pods,
            vmis=self._vmis,
            claims=self._claims,
            claim_keeper=self._claim_keeper,
            launcher_changed=self._launcher_changed,
            look=lambda uid: self._machines.look(uid),
            moved=lambda *which: self.moves.settle(*which),
            address=lambda: self.node.address,
        )
        self._platform: Platform = Standalone(parts) if settings.pods is None else Kubelet(parts, settings.pods)
        self.networks, self._launchers = self._platform.networks, self._platform.launchers
        cpus = self._platform.cpus
        self._launchers.ended = cpus.changed
        # an image may bring the first Linux kernel that a driver can be tried with
        watched = (*cpus.watched, str(state / "images"), str(state / "images" / "blobs" / "sha256"))
        self.node = self._platform.node_keeper(
            client, settings.node_name, registry, state / "probe", self._facts_of(cpus), watched
        )
        self.node.changed = self._look_at_all
        self._platform.set_up_probing(self.node.prober)
        self._machines = MachineAgent(
            client,
            self._events,
            registry,
            self._launchers,
            self._pods,
            self._vmis,
            node_name=settings.node_name,
            platform=self._platform.machines,
            cpus=cpus,
            guest_report=lambda vmi: self._guests.report(vmi),
            gone=lambda driver, virt_type: gone(self.node.results, driver, virt_type),
            not_ready=lambda vmi: self._probes.not_ready(vmi),
            access_outcome=lambda vmi: self._access.outcome(vmi),
        )
        self.moves = Moves(client, self._events, registry, self._launchers, self._pods, self._vmis, self._machines)
        self._guests = agents.GuestKeeper(self._vmis, self._link_of, self._machines.look)
        self.statistics = Statistics(settings.node_name, self._living, registry, deprecated=self._deprecated)
        self._access = AccessKeeper(
            self._vmis, self._events, self._link_of, self._machines.access_secrets, self._machines.look
        )
        self._probes = ProbeKeeper(self._vmis, self._events, self._link_of, self._machines.look, self._connect_of)
        self._screens, self._usb_slots, self._readers = Screens(), UsbSlots(), Readers()
        self.synced = asyncio.Event()
        """Set when the agent has seen the cluster and works."""

    @property
    def images(self) -> ImageStore:
        """The store of images, which the agent of endpoints uses, too."""
        return self._images

    @property
    def confinement(self) -> Confinement | None:
        """How the launchers of this node are confined, where the agent does that."""
        return self._launchers.confinement

    def _facts_of(self, cpus: CpuSource) -> Callable[[], frozenset[str]]:
        return lambda: self.networks.facts() | cpus.facts()

    def _look_at_all(self) -> None:
        """Look at every machine of this node: what works here has changed."""
        for pod in self._pods.items():
            self._machines.look(owner_uid(pod))

    def _launcher_changed(self, id_: str) -> None:
        self._platform.pods.queue.add(id_)
        for pod in self._pods.by_index("id", id_):
            self._machines.look(owner_uid(pod))
            self._guests.look(owner_uid(pod))
            self._probes.look(owner_uid(pod))
            self._access.look(owner_uid(pod))

    async def run(self) -> None:
        """Work until cancelled. Launchers and machines go on after that."""
        with self.statistics:
            await self._work()

    async def _work(self) -> None:
        state = self._settings.state
        for name in ("images", "volumes", "hostdisks", "l", "probe", "cache"):
            os.makedirs(state / name, mode=0o700, exist_ok=True)  # noqa: PTH103
        await asyncio.to_thread(self._images.sweep)
        await self._platform.open()
        await self.networks.open()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._events.run(), name="agent-events")
                group.create_task(self.node.run(), name="agent-node")
                followed = self._platform.followed()
                for one in followed:
                    await one.start()
                await asyncio.gather(*(one.synced() for one in followed))
                if self.importing is not None:
                    await self.importing.start(group)
                await self.networks.sweep({pod_id(pod) for pod in self._pods.items()} | set(self._launchers.ids()))
                self._platform.pods.adopt()
                pods = controller(
                    "virt-handler-pods", self._platform.pods.queue, self._platform.pods.reconcile, WORKERS
                )
                machines = controller("virt-handler-vmi", self._machines.queue, self._machines.reconcile, WORKERS)
                asked = controller("virt-handler-guests", self._guests.queue, self._guests.reconcile, ASKERS)
                probes = controller("virt-handler-probes", self._probes.queue, self._probes.reconcile, PROBERS)
                group.create_task(pods.run(), name="agent-pods")
                access = controller("virt-handler-access", self._access.queue, self._access.reconcile, ASKERS)
                group.create_task(probes.run(), name="agent-probes")
                group.create_task(access.run(), name="agent-access")
                group.create_task(asked.run(), name="agent-guests")
                group.create_task(machines.run(), name="agent-vmi")
                self._platform.work(group)
                self.synced.set()
        finally:
            await self._pods.stop()
            await self._vmis.stop()
            await self._claims.stop()
            if self.importing is not None:
                await self.importing.stop()
            await self.moves.stop()
            await self._machines.stop()
            await self._launchers.close()
            await self.node.prober.stop()

    def _insecure(self) -> set[str]:
        return self.importing.insecure() if self.importing is not None else set()

    def _link_of(self, vmi: Obj) -> Link | None:
        pod = self._machines.pod_of(vmi)
        return self._launchers.get(pod_id(pod)) if pod is not None else None

    def _connect_of(self, vmi: Obj) -> Connect:
        pod = self._machines.pod_of(vmi)
        return partial(self.networks.socket, pod_id(pod) if pod is not None else "")

    def _living(self) -> Iterator[tuple[Obj, Link]]:
        """Give the machines whose domain is there, with their launchers."""
        for vmi in self._vmis.items():
            if read_status(vmi).get("nodeName") != self._settings.node_name:
                continue
            link = self._link_of(vmi)
            if link is not None and link.active:
                yield vmi, link

    def _deprecated(self) -> set[str]:
        """Give the machine types of this node that its hypervisor is to give up."""
        found = (result.cpus.deprecated for result in self.node.results.values() if result.available and result.cpus)
        return set().union(*found)

    async def _running(self, namespace: str, name: str) -> tuple[Obj, Link]:
        """Return a machine and the link to its launcher; one that is being started again is waited for."""
        await self.synced.wait()  # an agent that has just begun does not know yet what runs here
        vmi = self._vmis.get(namespace, name)
        pod = self._machines.pod_of(vmi) if vmi is not None else None
        found = await self._reached(pod_id(pod)) if pod is not None else None
        if vmi is None or found is None:
            raise LauncherGone(f"{namespace}/{name} does not run on node {self._settings.node_name}")
        return vmi, found

    async def _reached(self, id_: str) -> Link | None:
        """Return the link to a launcher that there is or was: a machine goes on without one, which then comes back."""
        link = self._launchers.get(id_)
        return await self._launchers.ensure(id_) if link is None and self._launchers.exists(id_) else link

    async def ask(self, namespace: str, name: str, operation: str, **arguments: Any) -> Obj:
        """Do something to a machine, or ask its guest something; the operations are those of :data:`OPERATIONS`."""
        vmi, link = await self._running(namespace, name)
        if operation in OPERATIONS:
            await link.request(OPERATIONS[operation], **arguments)
            await paused.shown(self._vmis, vmi, operation)
            if operation in ("freeze", "unfreeze"):
                self._guests.queue.add((namespace, name))
            return {}
        if operation == "guestosinfo":
            return await agents.everything(link)
        if operation == "userlist":
            return {"items": await agents.users(link)}
        if operation == "filesystemlist":
            return {"items": await agents.filesystems(link)}
        raise LauncherError(f"unknown operation {operation!r}")

    async def open(self, namespace: str, name: str, stream: str, **arguments: Any) -> ByteStream:
        """Open a stream to a machine: ``console``, ``vnc`` (``preserve``), ``screenshot``, ``usbredir`` or ``port``."""
        vmi, link = await self._running(namespace, name)
        if stream == "console":
            return Stream(*await open_console(link.path))
        if stream == "vnc":
            return await self._screens.open(vmi["metadata"]["uid"], link.path, preserve=bool(arguments.get("preserve")))
        if stream == "usbredir":
            return await self._usb_slots.open(vmi["metadata"]["uid"], link.path, USB_SLOTS)
        if stream == "screenshot":
            return await screenshot(link.path, self._readers, wake=bool(arguments.get("wake")))
        if stream == "port":
            port, protocol = int(arguments["port"]), str(arguments["protocol"])
            return await port_of(vmi, link.path, port, protocol, self._connect_of(vmi))
        raise LauncherError(f"unknown stream {stream!r}")

    async def read_log(
        self, pod: Obj, container: str = "", *, follow: bool = False, tail: int | None = None
    ) -> AsyncIterator[bytes]:
        """Give what a launcher Pod wrote: the launcher's log, or the guest's console (``guest-console-log``)."""
        folder = self._launchers.folder(pod_id(pod))
        async for chunk in logs.read_log(folder / logs.file_of(container), follow=follow, tail=tail):
            yield chunk

    def read_last_log(self, uuid: str, container: str, *, tail: int | None = None) -> AsyncIterator[bytes] | None:
        """Give what the last instance of a machine wrote whose launcher's folder is gone; None if nothing was kept."""
        folder = self._launchers.ended_logs.folder(uuid)
        return logs.read_log(folder / logs.file_of(container), tail=tail) if folder.is_dir() else None

    async def drain(self, seconds: float = 60.0) -> None:
        """Shut all machines of this node down, the unwilling ones by force when the time is up."""
        deadline = time.time() + seconds
        async with asyncio.TaskGroup() as group:
            for id_ in self._launchers.ids():
                group.create_task(self._drained(id_, deadline))
        await self.node.stopped()

    async def _drained(self, id_: str, deadline: float) -> None:
        while True:
            driver = self._registry.get(str(self._launchers.known(id_).get("driver")))
            try:
                link = await self._reached(id_)
                if link is None or not link.active:
                    return
                pause = await power_down(link, deadline, graceful=driver is None or driver.graceful_shutdown)
            except LauncherError as error:
                log.warning("launcher %s: %s", id_, error)
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await link.changed()
