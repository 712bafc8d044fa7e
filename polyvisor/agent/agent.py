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
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from polyvisor.agent.files import logs
from polyvisor.agent.guests import agents
from polyvisor.agent.guests.access import AccessKeeper
from polyvisor.agent.images.registry import Registries
from polyvisor.agent.images.store import ImageStore
from polyvisor.agent.imports.importing import Importing
from polyvisor.agent.launchers.confinement import Confinement
from polyvisor.agent.launchers.launcher_images import LauncherImages
from polyvisor.agent.launchers.launcher_pods import owner_uid, pod_id
from polyvisor.agent.launchers.processes import Launchers
from polyvisor.agent.link.connection import LauncherError, LauncherGone, Link, open_console
from polyvisor.agent.link.descriptors import Readers
from polyvisor.agent.link.streams import ByteStream, Connect, Screens, Stream, UsbSlots, port_of, screenshot
from polyvisor.agent.live import paused
from polyvisor.agent.live.power import power_down
from polyvisor.agent.live.probes import ProbeKeeper
from polyvisor.agent.live.render import USB_SLOTS
from polyvisor.agent.live.statistics import Statistics
from polyvisor.agent.network.bridged import BridgedNetworks
from polyvisor.agent.network.dhcp import Resolver
from polyvisor.agent.network.pods import Networks, PodNetworks
from polyvisor.agent.node.cpus import CpuSource, HostCpus, PodCpus
from polyvisor.agent.node.id_ranges import IdRanges
from polyvisor.agent.node.probing import gone
from polyvisor.agent.node.real_node import RealNodeKeeper
from polyvisor.agent.node.registration import NodeKeeper
from polyvisor.agent.platform import pruning
from polyvisor.agent.platform.pod_launchers import PodLaunchers
from polyvisor.agent.platform.pod_machines import PodMachineAgent
from polyvisor.agent.platform.pod_node import PodNode
from polyvisor.agent.platform.virtual_node import VirtualNode
from polyvisor.agent.settings import Settings
from polyvisor.agent.storage.claims import ClaimKeeper
from polyvisor.agent.storage.kept import StateKeeper
from polyvisor.agent.storage.sources import Places
from polyvisor.agent.vmi import MachineAgent
from polyvisor.api import Obj, node_names
from polyvisor.api.reading import read_status
from polyvisor.api.resources import PODS, PVCS, VMIS
from polyvisor.drivers import DriverRegistry
from polyvisor.kube import Controller, EventRecorder, Informer, KubeClient, WorkQueue

if TYPE_CHECKING:
    from polyvisor.agent.node.devices.keeper import DeviceKeeper

K = TypeVar("K", bound=Hashable)
COMPONENT = "virt-handler"
WORKERS = 4
SLOW_SECONDS = 5.0
"""How long a machine may keep a worker from the others: its launcher may take a minute for each answer."""
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
        self.importing: Importing | None = None
        """What fills DataVolumes, if this agent does."""
        if settings.imports:
            claims, vmis, link_of = (self._claims, self._claim_keeper), self._vmis, self._link_of
            self.importing = Importing(client, self._events, *claims, self._images, state, vmis, link_of)
        self._pods.add_index("id", lambda pod: [pod_id(pod)])
        self._pods.add_index("owner", lambda pod: [owner_uid(pod)])
        self._vmis.add_index("uid", lambda vmi: [vmi["metadata"]["uid"]])
        self.networks = self._networks_of(settings)
        self.confinement = Confinement(state)
        self._launchers = self._launchers_of(settings)
        self._ids = IdRanges(state / "ids.json", self._launchers.over)
        kubelet = settings.device_plugins.parent if settings.device_plugins else None
        self._host_cpus = HostCpus(state / "cpus.json", self._launchers) if settings.pods is None else None
        cpus = self._host_cpus or PodCpus(kubelet)
        self._launchers.ended = cpus.changed
        # an image may bring the first Linux kernel that a driver can be tried with
        watched = (*cpus.watched, str(state / "images"), str(state / "images" / "blobs" / "sha256"))
        keeper = NodeKeeper if settings.pods is None else RealNodeKeeper
        self.node = keeper(client, settings.node_name, registry, state / "probe", self._facts_of(cpus), watched)
        self.node.changed = self._look_at_all
        self._launcher_images = LauncherImages(self._own_pod) if settings.own_pod else None
        if self._launcher_images is not None:
            self.node.prober.how = self._launcher_images.probe
            self.node.prober.cut_short = self._launcher_images.cut_short
        self._pod_keeper = self._pod_keeper_of(settings)
        machines = MachineAgent if settings.pods is None else PodMachineAgent
        self._machines = machines(
            client,
            self._events,
            registry,
            self._launchers,
            self._pods,
            self._vmis,
            node_name=settings.node_name,
            places=self._places,
            claims=self._claim_keeper,
            cpus=cpus,
            ids=self._ids,
            guest_report=lambda vmi: self._guests.report(vmi),
            gone=lambda driver, virt_type: gone(self.node.results, driver, virt_type),
            not_ready=lambda vmi: self._probes.not_ready(vmi),
            access_outcome=lambda vmi: self._access.outcome(vmi),
        )
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

    def _networks_of(self, settings: Settings) -> Networks:
        folder, resolver = settings.state / "networks", Resolver.read()
        if settings.pods is not None:
            return PodNetworks(folder, resolver)
        return BridgedNetworks(folder, resolver, self._client) if settings.bridged else Networks()

    def _launchers_of(self, settings: Settings) -> Launchers:
        if settings.pods is None:
            return Launchers(settings.state / "l", self._launcher_changed, self.networks, self.confinement)
        return PodLaunchers(
            settings.pods,
            self._launcher_changed,
            lambda id_: next((str(pod["metadata"]["uid"]) for pod in self._pods.by_index("id", id_)), ""),
            self.networks,
        )

    def _pod_keeper_of(self, settings: Settings) -> VirtualNode | PodNode:
        def look(uid: str) -> None:
            self._machines.look(uid)

        if isinstance(self._launchers, PodLaunchers):
            seeded = self._launcher_images.seeded if self._launcher_images else lambda _driver, _pod, plan: plan
            return PodNode(
                self._events, self._registry, self._launchers, self._pods, self._vmis, look=look, seeded=seeded
            )
        return VirtualNode(
            self._client,
            self._events,
            self._registry,
            self._launchers,
            self._pods,
            self._vmis,
            probe=settings.state / "probe",
            address=lambda: self.node.address,
            look=look,
            kept=StateKeeper(self._client, self._claim_keeper, self._places.volumes).link,
            ids=self._ids,
        )

    def _own_pod(self) -> Obj | None:
        return self._pods.get(*self._settings.own_pod) if self._settings.own_pod else None

    def _facts_of(self, cpus: CpuSource) -> Callable[[], frozenset[str]]:
        return lambda: self.networks.facts() | cpus.facts()

    def _look_at_all(self) -> None:
        """Look at every machine of this node: what works here has changed."""
        for pod in self._pods.items():
            self._machines.look(owner_uid(pod))

    def _launcher_changed(self, id_: str) -> None:
        self._pod_keeper.queue.add(id_)
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
        if self._settings.pods is None:
            await asyncio.to_thread(self.confinement.open)
        await self.networks.open()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._events.run(), name="agent-events")
                group.create_task(self.node.run(), name="agent-node")
                if self._settings.device_plugins is not None:
                    group.create_task(self._devices(self._settings.device_plugins).run(), name="agent-devices")
                # a kubelet's node has volumes of Kubernetes' own
                followed = [self._pods, self._vmis, *([self._claims] if self._settings.pods is None else [])]
                for one in followed:
                    await one.start()
                await asyncio.gather(*(one.synced() for one in followed))
                if self.importing is not None:
                    await self.importing.start(group)
                await self.networks.sweep({pod_id(pod) for pod in self._pods.items()} | set(self._launchers.ids()))
                self._pod_keeper.adopt()
                pods = _controller("virt-handler-pods", self._pod_keeper.queue, self._pod_keeper.reconcile, WORKERS)
                machines = _controller("virt-handler-vmi", self._machines.queue, self._machines.reconcile, WORKERS)
                claims = _controller("virt-handler-claims", self._claim_keeper.queue, self._claim_keeper.reconcile, 1)
                asked = _controller("virt-handler-guests", self._guests.queue, self._guests.reconcile, ASKERS)
                probes = _controller("virt-handler-probes", self._probes.queue, self._probes.reconcile, PROBERS)
                group.create_task(pods.run(), name="agent-pods")
                access = _controller("virt-handler-access", self._access.queue, self._access.reconcile, ASKERS)
                group.create_task(probes.run(), name="agent-probes")
                group.create_task(access.run(), name="agent-access")
                group.create_task(asked.run(), name="agent-guests")
                if self._settings.pods is None:  # a kubelet's node has volumes and images of Kubernetes' own
                    group.create_task(claims.run(), name="agent-claims")
                    group.create_task(pruning.run(self._images, self._launchers), name="agent-images")
                group.create_task(machines.run(), name="agent-vmi")
                if self._host_cpus is not None:
                    shared = _controller("virt-handler-cpus", self._host_cpus.queue, self._host_cpus.reconcile, 1)
                    self._host_cpus.changed()
                    group.create_task(shared.run(), name="agent-cpus")
                self.synced.set()
        finally:
            await self._pods.stop()
            await self._vmis.stop()
            await self._claims.stop()
            if self.importing is not None:
                await self.importing.stop()
            await self._machines.stop()
            await self._launchers.close()
            await self.node.prober.stop()

    def _insecure(self) -> set[str]:
        return self.importing.insecure() if self.importing is not None else set()

    def _devices(self, folder: Path) -> DeviceKeeper:
        from polyvisor.agent.node.devices.keeper import DeviceKeeper  # only a kubelet's node needs gRPC

        devices = {name: Path(path) for name, path in node_names.DEVICES.items()}
        return DeviceKeeper(folder, devices, self._settings.state / "devices")

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


def _controller(
    name: str, queue: WorkQueue[K], reconcile: Callable[[K], Awaitable[float | None]], workers: int
) -> Controller[K]:
    """Make a controller of the agent's: launchers end when they like, and what they refuse is no defect."""
    slow = SLOW_SECONDS if workers > 1 else None  # one alone is one at a time
    return Controller(name, queue, reconcile, workers, expected=(LauncherError,), slow=slow)
