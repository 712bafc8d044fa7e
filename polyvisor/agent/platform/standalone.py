"""A node without a kubelet: the agent starts launchers itself, and images and claims are folders of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from polyvisor.agent.launchers.confinement import Confinement
from polyvisor.agent.launchers.launcher_pods import pod_id
from polyvisor.agent.launchers.processes import Launchers
from polyvisor.agent.link.connection import Link
from polyvisor.agent.live import hotplug
from polyvisor.agent.named import named
from polyvisor.agent.network.bridged import BridgedNetworks
from polyvisor.agent.network.dhcp import Resolver
from polyvisor.agent.network.pods import Networks
from polyvisor.agent.node.cpus import HostCpus
from polyvisor.agent.node.id_ranges import IdRanges
from polyvisor.agent.node.prober import Prober
from polyvisor.agent.node.registration import NodeKeeper
from polyvisor.agent.platform import pruning
from polyvisor.agent.platform.base import Parts, controller
from polyvisor.agent.platform.virtual_node import VirtualNode
from polyvisor.agent.seam import Report
from polyvisor.agent.storage import making
from polyvisor.agent.storage.claims import claims_of
from polyvisor.agent.storage.contents import data_of
from polyvisor.agent.storage.kept import StateKeeper
from polyvisor.agent.storage.prepared import Prepared, prepared
from polyvisor.api import Obj
from polyvisor.api.names import Phase
from polyvisor.api.resources import CONFIGMAPS, SECRETS
from polyvisor.api.volumes import access_secrets
from polyvisor.drivers.base import Driver
from polyvisor.kube import Informer


class StandaloneMachines:
    """Where the bytes of machines come from on a node without a kubelet."""

    phases: tuple[Phase, ...] = (Phase.SCHEDULED, Phase.RUNNING)

    def __init__(self, parts: Parts, launchers: Launchers, ids: IdRanges) -> None:
        self._client = parts.client
        self._claim_keeper = parts.claim_keeper
        self._places = parts.places
        self._launchers = launchers
        self._ids = ids
        self.hostdisks = parts.places.hostdisks
        self.shelves: hotplug.Shelves = hotplug.NodeShelves(parts.claim_keeper, parts.places)

    def ready(self, vmi: Obj, pod: Obj, link: Link) -> bool:
        """Whether the next step may be taken: always, once the launcher is reached."""
        return True

    def launchers_of(self, pod: Obj) -> Iterable[Obj]:
        """Return the Pod alone."""
        return (pod,)

    def at_start(self, vmi: Obj, pod: Obj) -> Obj:
        """Return the machine with all of its volumes."""
        return vmi

    async def prepare(self, vmi: Obj, pod: Obj, driver: Driver, report: Report) -> Prepared:
        """Make all that a machine boots from, out of the node's own images and folders of claims."""
        folder, workshop = self._launchers.places(pod_id(pod))
        places = self._places.of(self._launchers.owner(pod_id(pod)), folder)
        inputs = await self._inputs(vmi, pod, driver)
        for claim in inputs.claims.values():
            await self._claim_keeper.bind(claim)
        return await asyncio.to_thread(making.prepare, vmi, driver, folder, places, inputs, report, workshop)

    async def prepared(self, pod: Obj) -> Prepared | None:
        """Return what was made ready for a machine, if it was."""
        return await asyncio.to_thread(prepared, *self._launchers.places(pod_id(pod)))

    async def access_secrets(self, vmi: Obj, pod: Obj | None) -> dict[str, dict[str, bytes]]:
        """Return the Secrets as the API server has them."""
        return await self._secrets(set(access_secrets(vmi["spec"])), vmi)

    def without_effect(self, vmi: Obj) -> list[str]:
        """Return the fields that only a kubelet could heed."""
        return [f"spec.{key}" for key in ("dnsPolicy", "dnsConfig", "subdomain") if vmi["spec"].get(key)]

    async def _inputs(self, vmi: Obj, pod: Obj, driver: Driver) -> making.Inputs:
        """Read the Secrets, ConfigMaps and claims that the machine names, all in its own namespace."""
        wanted, namespace = making.needed(vmi), vmi["metadata"]["namespace"]
        secrets = await self._secrets(wanted.secrets, vmi)
        found = await named(self._client, CONFIGMAPS, wanted.configmaps, namespace)
        configmaps = {name: data_of(one, "data", "binaryData") for name, one in found.items()}
        resolver, first = self._launchers.networks.resolver(vmi, pod), await self._ids.given(pod, driver)
        return making.Inputs(secrets, await claims_of(self._client, vmi), configmaps, pod, {}, resolver, first)

    async def _secrets(self, names: set[str], vmi: Obj) -> dict[str, dict[str, bytes]]:
        found = await named(self._client, SECRETS, names, vmi["metadata"]["namespace"])
        return {name: data_of(secret, "stringData", "data") for name, secret in found.items()}


class Standalone:
    """A node whose launchers the agent starts itself."""

    node_keeper = NodeKeeper

    def __init__(self, parts: Parts) -> None:
        folder, resolver = parts.state / "networks", Resolver.read()
        self.networks = BridgedNetworks(folder, resolver, parts.client) if parts.settings.bridged else Networks()
        self.confinement = Confinement(parts.state)
        self.launchers = Launchers(parts.state / "l", parts.launcher_changed, self.networks, self.confinement)
        self.cpus = HostCpus(parts.state / "cpus.json", self.launchers)
        ids = IdRanges(parts.state / "ids.json", self.launchers.over)
        self.machines = StandaloneMachines(parts, self.launchers, ids)
        self.pods = VirtualNode(
            parts.client,
            parts.events,
            parts.registry,
            self.launchers,
            parts.pods,
            parts.vmis,
            probe=parts.state / "probe",
            address=parts.address,
            look=parts.look,
            kept=StateKeeper(parts.client, parts.claim_keeper, parts.places.volumes).link,
            ids=ids,
        )
        self._parts = parts

    def set_up_probing(self, prober: Prober) -> None:
        """Leave the prober as it is: drivers are tried in this process's own tree of files."""

    def followed(self) -> Sequence[Informer]:
        """Return Pods, instances and claims."""
        return self._parts.pods, self._parts.vmis, self._parts.claims

    async def open(self) -> None:
        """Try how launchers can be confined here."""
        await asyncio.to_thread(self.confinement.open)

    def work(self, group: asyncio.TaskGroup) -> None:
        """Keep claims, the image cache and the CPUs that machines share."""
        keeper = self._parts.claim_keeper
        claims = controller("virt-handler-claims", keeper.queue, keeper.reconcile, 1)
        cpus = controller("virt-handler-cpus", self.cpus.queue, self.cpus.reconcile, 1)
        group.create_task(claims.run(), name="agent-claims")
        group.create_task(pruning.run(self._parts.images, self.launchers), name="agent-images")
        self.cpus.changed()
        group.create_task(cpus.run(), name="agent-cpus")
