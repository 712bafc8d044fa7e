"""All endpoints of an installation: for each object a keeper, its Node, its machines, and its status."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from polyvisor.agent.files import safepath
from polyvisor.agent.images.store import ImageStore
from polyvisor.agent.imports.importing import Importing
from polyvisor.agent.live.statistics import Told
from polyvisor.agent.platform.endpoint import adopted, statistics
from polyvisor.agent.platform.endpoint.adoptable import obstacles
from polyvisor.agent.platform.endpoint.adopted import AdoptedDomains
from polyvisor.agent.platform.endpoint.convertible import Convertible
from polyvisor.agent.platform.endpoint.filling import HostClaims, HostFiller
from polyvisor.agent.platform.endpoint.host_node import HostNode
from polyvisor.agent.platform.endpoint.inventory import Domain
from polyvisor.agent.platform.endpoint.keeper import Keeper, folder_name
from polyvisor.agent.platform.endpoint.link import HostError
from polyvisor.agent.platform.endpoint.machines import Machines
from polyvisor.agent.platform.endpoint.plan import Observed, is_managed, status_of
from polyvisor.agent.platform.endpoint.platform import Platform, secret_name, standalone
from polyvisor.agent.platform.endpoint.pools import Pools
from polyvisor.agent.platform.endpoint.provisioner import Provisioner
from polyvisor.api import Obj
from polyvisor.api.cluster_resources import PVS
from polyvisor.api.endpoint_names import endpoint_of_node, node_of_endpoint
from polyvisor.api.names import EventType
from polyvisor.api.owners import controller_uid
from polyvisor.api.reading import chosen_hypervisor
from polyvisor.api.resources import ENDPOINTS, NAMESPACES, PODS, PVCS, VMIS, VMS
from polyvisor.api.times import stamp
from polyvisor.drivers import DriverRegistry
from polyvisor.drivers.base import Driver
from polyvisor.kube.client import KubeClient
from polyvisor.kube.controller import Controller
from polyvisor.kube.errors import ApiError
from polyvisor.kube.events import EventRecorder
from polyvisor.kube.informer import Informer, key_of
from polyvisor.kube.tasks import end_task

WORKERS = 4
RESYNC_SECONDS = 300.0
COMPONENT = "endpoint-agent"
INSTALLATION_NAMESPACE = "kube-system"
"""The namespace whose uid names an installation: every cluster has it and nobody makes it again."""
log = logging.getLogger("polyvisor.endpoints")


class Served:
    """What an endpoint has beside its connection: a Node, and machines on it."""

    def __init__(self, machines: Machines, domains: AdoptedDomains, node: HostNode) -> None:
        self.machines = machines
        self.domains = domains
        self.node = node
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        name, expected = self.machines.name, (HostError,)
        machines = Controller(f"endpoint-{name}", self.machines.queue, self.machines.reconcile, WORKERS, expected)
        marks = Controller(f"adopted-{name}", self.domains.queue, self.domains.reconcile, 1, expected)
        self._tasks = [
            asyncio.create_task(machines.run(), name=f"machines-{name}"),
            asyncio.create_task(marks.run(), name=f"adopted-{name}"),
            asyncio.create_task(self.node.run(), name=self.node.name),
        ]

    async def stop(self) -> None:
        """End; nothing changes on the host."""
        for task in self._tasks:
            await end_task(task)


class EndpointAgent:
    """Serves the HypervisorEndpoints of a platform; ``root`` is a folder of its own."""

    def __init__(
        self,
        client: KubeClient,
        drivers: DriverRegistry,
        root: Path,
        images: Callable[[], ImageStore | None] = lambda: None,
        address: str = "127.0.0.1",
        platform: Platform | None = None,
        volumes: Path | None = None,
    ) -> None:
        """``volumes`` is the folder of claims that are on this machine, where it has any."""
        self._client = client
        self._platform = platform or standalone(client)
        self._images = images
        self._address = address
        self._served: dict[str, Served] = {}
        only = self._platform.only
        here = f"spec.nodeName={node_of_endpoint(only)}" if only else None
        self._pods = Informer(self._platform.node, PODS, field_selector=here, resync_seconds=RESYNC_SECONDS)
        self._vmis = Informer(client, VMIS, resync_seconds=RESYNC_SECONDS)
        self._vms = Informer(client, VMS)
        adopted.prepare(self._vms)
        self._claims, self._volumes = Informer(client, PVCS), Informer(client, PVS)
        self._pods.add_index("node", lambda pod: [str((pod.get("spec") or {}).get("nodeName") or "")])
        self._pods.add_index("owner", lambda pod: [controller_uid(pod, VMIS.kind)])
        self._vmis.add_index("node", lambda vmi: [str((vmi.get("status") or {}).get("nodeName") or "")])
        self._vmis.add_index(adopted.UID_INDEX, lambda vmi: [vmi["metadata"]["uid"]])
        self._drivers = drivers
        self._root = root
        self._endpoints = Informer(client, ENDPOINTS, field_selector=f"metadata.name={only}" if only else None)
        self._secrets = self._platform.credentials
        self._events = EventRecorder(client, COMPONENT, node_of_endpoint(only) if only else "")
        self._keepers: dict[str, Keeper] = {}
        self._convertible: dict[str, tuple[Keeper, Convertible]] = {}
        self._stopping: set[asyncio.Task[None]] = set()
        self._cluster = ""
        self.synced = asyncio.Event()
        """Set when the agent has seen the cluster and works."""
        self._provisioner = Provisioner(
            client,
            self._events,
            drivers,
            self.keeper,
            claims=self._claims,
            volumes=self._volumes,
            endpoints=self._endpoints,
            node=node_of_endpoint(self._platform.only) if self._platform.only else "",
        )
        claims = HostClaims(client, self._provisioner, self._pools_of, self._vmis)
        self._filler = HostFiller(root / "filling", volumes, images, claims)
        self.fetch = self._filler.fetch
        self.importing = Importing(client, self._events, self._claims, claims, self._filler)

    def _pools_of(self, name: str) -> tuple[Pools, Callable[[str, str], str]] | None:
        """Return an endpoint's pools, and where the raw content of a volume there is by HTTPS, if that is the way."""
        keeper = self._keepers.get(name)
        driver = self._drivers.get(keeper.seen.driver) if keeper is not None else None
        if keeper is None or driver is None:
            return None
        uri = str(keeper.endpoint["spec"]["uri"])
        return Pools(keeper), lambda pool, volume: driver.upload_url(uri, pool, volume)

    async def run(self) -> None:
        """Work until cancelled; connections end then, and nothing changes on the hosts."""
        namespace = await self._client.get(NAMESPACES, INSTALLATION_NAMESPACE)
        self._cluster = namespace["metadata"]["uid"]
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._secrets.run(), name="endpoint-secrets")
                group.create_task(self._events.run(), name="endpoint-events")
                group.create_task(self._pods.run(), name="endpoint-pods")
                group.create_task(self._vmis.run(), name="endpoint-machines")
                group.create_task(self._vms.run(), name="endpoint-vms")
                group.create_task(self._claims.run(), name="endpoint-claims")
                group.create_task(self._volumes.run(), name="endpoint-volumes")
                needed = (self._secrets, self._pods, self._vmis, self._vms)
                await asyncio.gather(*(one.synced() for one in needed))
                self.synced.set()
                self._vms.on_change(self._vm_changed)
                self._pods.on_change(self._pod_changed)
                self._vmis.on_change(self._machine_changed)
                self._endpoints.on_change(self._changed)
                self._secrets.on_change(self._secret_changed)
                await asyncio.to_thread(self._sweep)
                group.create_task(self._endpoints.run(), name="endpoints")
                group.create_task(self._provisioning(group), name="endpoint-provisioner")
        finally:
            if not self._platform.only:
                await self.importing.stop()
            await asyncio.gather(*(one.stop() for one in self._served.values()))
            await asyncio.gather(*(keeper.stop() for keeper in self._keepers.values()), *self._stopping)

    async def _provisioning(self, group: asyncio.TaskGroup) -> None:
        """Make the volumes that claims of mapped classes wait for, and fill those of DataVolumes."""
        await asyncio.gather(*(one.synced() for one in (self._endpoints, self._claims, self._volumes)))
        if not self._platform.only:  # in a cluster CDI fills DataVolumes
            self._filler.start()
            await self.importing.start(group)
        await Controller("endpoint-provisioner", self._provisioner.queue, self._provisioner.reconcile, 1).run()

    def _sweep(self) -> None:
        """Remove what a former process left: logs of endpoints that are gone, keys of connections that it opened."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for entry in self._root.iterdir():
            safepath.remove_path(entry)

    @property
    def cluster(self) -> str:
        """The uid by which this installation marks its domains."""
        return self._cluster

    @property
    def vmis(self) -> Informer:
        """The copy of the machines."""
        return self._vmis

    def machine(self, uid: str) -> Obj | None:
        """Return the machine with that uid."""
        return next(iter(self._vmis.by_index("uid", uid)), None)

    def named(self, namespace: str, name: str) -> Obj | None:
        """Return the machine of that name."""
        return self._vmis.get(namespace, name)

    def pod(self, namespace: str, name: str) -> Obj | None:
        """Return the launcher Pod of that name, if it is bound to a Node that is served."""
        return self._pods.get(namespace, name)

    def owner(self, domain: Domain) -> str:
        """Return ``NAMESPACE/NAME`` of the machine whose a domain is by its mark, empty if there is none."""
        copies = ((self._vmis, "uid"), (self._vms, adopted.UID_INDEX))
        found = [one for copy, index in copies for one in copy.by_index(index, domain.machine)]
        mine = found if domain.machine and self.managed(domain) else ()
        return next(("/".join(key_of(one)) for one in mine), "")

    def obstacles(self, name: str, domain: Domain) -> list[str]:
        """Return why a domain of an endpoint cannot be adopted, beside what its XML says."""
        keeper, owner = self._keepers[name], self.owner(domain)
        driver = self._drivers.get(keeper.seen.driver)
        marks = driver is None or driver.keeps_metadata
        return obstacles(domain, keeper.endpoint, self._cluster, owner, keeper.seen.itself, marks=marks)

    def keeper(self, name: str) -> Keeper | None:
        """Return the keeper of an endpoint, if there is such an endpoint."""
        return self._keepers.get(name)

    def convertible(self, name: str) -> Convertible:
        """Return what judges the domains of an endpoint that there is."""
        keeper = self._keepers[name]
        if name not in self._convertible or self._convertible[name][0] is not keeper:
            self._convertible[name] = keeper, Convertible(keeper, self._drivers)
        return self._convertible[name][1]

    def driver_of(self, vmi: Obj) -> Driver | None:
        """Return the driver that a machine was given."""
        return self._drivers.get(str(chosen_hypervisor(vmi).get("driver") or ""))

    async def figures(self) -> list[Told]:
        """Return what the machines of all hosts use, as :class:`Statistics` has it: one question a host."""
        answers = [statistics.asked(served.machines, self.driver_of) for served in self._served.values()]
        return [one for told in await asyncio.gather(*answers) for one in told]

    def _beside(self, name: str, seen: Observed) -> tuple[str, ...]:
        """Return the other endpoints that lead to the same host, as far as their hosts have told their UUIDs."""
        uuid = seen.host.uuid if seen.host is not None else ""
        hosts = {other: keeper.seen.host for other, keeper in self._keepers.items() if other != name}
        return tuple(
            sorted(f"endpoint {other}" for other, host in hosts.items() if host and uuid and host.uuid == uuid)
        )

    def managed(self, domain: Domain) -> bool:
        """Whether a domain is this installation's."""
        return is_managed(domain, self._cluster)

    def _changed(self, old: Obj | None, new: Obj | None) -> None:
        if old is not None and (new is None or new["metadata"]["uid"] != old["metadata"]["uid"]):
            self._end(old)
        if new is None:
            return
        name = new["metadata"]["name"]
        keeper = self._keepers.get(name)
        if keeper is not None:
            keeper.update(new, self._secrets.of(new))
            return
        folder = self._root / folder_name(new)
        may_write = self._platform.may_write
        keeper = Keeper(folder, self._drivers, lambda seen: self._save(name, seen), self._cluster, may_write=may_write)
        self._keepers[name] = keeper
        keeper.update(new, self._secrets.of(new))
        machines = Machines(
            self._client,
            self._events,
            self._drivers,
            keeper,
            self._pods,
            self._vmis,
            self._vms,
            cluster=self._cluster,
            folder=folder / "making",
            images=self._images,
            address=self._address,
            node=self._platform.node,
        )
        domains = AdoptedDomains(self._events, keeper, self._vms, self._vmis, cluster=self._cluster)
        self._served[name] = Served(machines, domains, HostNode(self._client, new, self._address, self._platform))
        self._served[name].start()
        keeper.start()

    def _secret_changed(self, changed: str) -> None:
        for endpoint in self._endpoints.items():
            keeper = self._keepers.get(endpoint["metadata"]["name"])
            if keeper is not None and secret_name(endpoint) == changed:
                keeper.update(endpoint, self._secrets.of(endpoint))

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        for pod in (old, new):
            node = str(((pod or {}).get("spec") or {}).get("nodeName") or "")
            served = self._served.get(endpoint_of_node(node)) if node else None
            if served is not None and pod is not None:
                served.machines.pod_changed(pod)

    def _machine_changed(self, old: Obj | None, new: Obj | None) -> None:
        vmi = new or old or {}
        served = self.served(vmi)
        if served is not None:
            served.machines.queue.add(key_of(vmi))
        if new is None and (vm := self._vms.get(*key_of(vmi))) is not None:
            self._vm_changed(None, vm)

    def _vm_changed(self, old: Obj | None, new: Obj | None) -> None:
        for vm in (one for one in (old, new) if one is not None):
            for served in self._served.values():
                served.domains.machine_changed(vm)

    def served(self, vmi: Obj) -> Served | None:
        """Return what serves the endpoint that a machine is on, if it is on one."""
        node = str((vmi.get("status") or {}).get("nodeName") or "")
        return self._served.get(endpoint_of_node(node)) if node else None

    def _end(self, endpoint: Obj) -> None:
        self._convertible.pop(endpoint["metadata"]["name"], None)
        keeper = self._keepers.pop(endpoint["metadata"]["name"], None)
        served = self._served.pop(endpoint["metadata"]["name"], None)
        if keeper is not None and served is not None:
            gone = self._forget(keeper, served, self._root / folder_name(endpoint))
            task = asyncio.create_task(gone, name="endpoint-ends")
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    async def _forget(self, keeper: Keeper, served: Served, folder: Path) -> None:
        await served.stop()
        await keeper.stop()
        await served.node.remove()
        with suppress(FileNotFoundError):
            await asyncio.to_thread(safepath.remove_path, folder)

    async def _save(self, name: str, seen: Observed) -> None:
        """Write the status, if it is news; say so by an Event where the endpoint became ready or ceased to be."""
        endpoint = self._endpoints.get(None, name)
        if endpoint is None:
            return
        seen = replace(seen, beside=self._beside(name, seen))
        for other in seen.beside:  # they were alone until now
            keeper = self._keepers[other.removeprefix("endpoint ")]
            if f"endpoint {name}" not in keeper.told_beside:
                keeper.look()
        self._keepers[name].told_beside = seen.beside
        if served := self._served.get(name):
            served.node.observed(endpoint, seen, self._drivers.get(seen.driver))
            served.machines.observed(seen)
            served.domains.observed(seen)
        before: dict[str, Any] = endpoint.get("status") or {}
        status = status_of(endpoint, seen, stamp())
        if {**before, **status} == before:
            return
        try:
            self._endpoints.learn(await self._client.patch(ENDPOINTS, name, {"status": status}, subresource="status"))
        except ApiError as error:
            if not error.not_found:
                raise
            return
        was, now = _ready(before), _ready(status)
        if now.get("reason") != was.get("reason") and now.get("reason") != "Connecting":
            kind = EventType.NORMAL if now.get("status") == "True" else EventType.WARNING
            self._events.event(endpoint, kind, now["reason"], now.get("message", ""))


def _ready(status: Obj) -> Obj:
    return next((one for one in status.get("conditions") or [] if one.get("type") == "Ready"), {})
