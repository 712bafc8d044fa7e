"""The mark on domains of adopted machines that have no instance: those that are shut off, or not started again yet.

An instance marks its domain and takes the mark away with itself. In between, and before the first one, the domain has
the mark of the VirtualMachine: so nobody else takes it, the host's room for foreign domains is not counted twice, and
the inventory tells whose it is. A mark whose machine is gone is taken away.
"""

from __future__ import annotations

from polyvisor.agent.platform.endpoint import mark
from polyvisor.agent.platform.endpoint.inventory import Domain
from polyvisor.agent.platform.endpoint.keeper import Keeper
from polyvisor.agent.platform.endpoint.link import HostError
from polyvisor.agent.platform.endpoint.plan import Observed
from polyvisor.api import Obj
from polyvisor.api.endpoint_names import ADOPT_ANNOTATION
from polyvisor.api.names import EventType
from polyvisor.kube import EventRecorder, Informer, WorkQueue

DOMAIN_INDEX, UID_INDEX = "domain", "uid"


def prepare(vms: Informer) -> None:
    """Give the copy of all VirtualMachines the indexes that are needed here."""
    vms.add_index(DOMAIN_INDEX, lambda vm: [found] if (found := adopts(vm)) else [])
    vms.add_index(UID_INDEX, lambda vm: [vm["metadata"]["uid"]])


def adopts(vm: Obj) -> str:
    """Return ``ENDPOINT/UUID`` of the domain that a VirtualMachine has adopted, empty if it has none."""
    template = (vm.get("spec") or {}).get("template") or {}
    uuid = ((template.get("metadata") or {}).get("annotations") or {}).get(ADOPT_ANNOTATION)
    endpoint = ((template.get("spec") or {}).get("hypervisor") or {}).get("endpoint")
    return f"{endpoint}/{uuid}" if uuid and endpoint else ""


class AdoptedDomains:
    """Keeps the marks of one endpoint; the informers are run by the owner. A key is a domain's UUID."""

    def __init__(self, events: EventRecorder, keeper: Keeper, vms: Informer, vmis: Informer, *, cluster: str) -> None:
        self._events = events
        self._keeper = keeper
        self._vms, self._vmis = vms, vmis
        self._cluster = cluster
        self.queue: WorkQueue[str] = WorkQueue()

    @property
    def _name(self) -> str:
        return str(self._keeper.endpoint["metadata"]["name"])

    def observed(self, seen: Observed) -> None:
        """Look at the domains that are marked as adopted, or that a VirtualMachine has adopted."""
        for domain in seen.domains or ():
            if domain.adopted or self._vms.by_index(DOMAIN_INDEX, f"{self._name}/{domain.uuid}"):
                self.queue.add(domain.uuid)

    def machine_changed(self, vm: Obj) -> None:
        """Look at the domain of a VirtualMachine that came, changed or went."""
        endpoint, _, uuid = adopts(vm).partition("/")
        if uuid and endpoint == self._name:
            self.queue.add(uuid)

    async def reconcile(self, uuid: str) -> None:
        """Mark a domain, or take its mark away. Nothing else of it is changed."""
        seen = self._keeper.seen
        domain = next((one for one in seen.domains or () if one.uuid == uuid), None)
        if domain is None or seen.failure is not None:
            return
        found = self._vms.by_index(DOMAIN_INDEX, f"{self._name}/{uuid}")
        vm = next((one for one in found if not one["metadata"].get("deletionTimestamp")), None)
        if vm is None:
            if domain.owner == self._cluster and domain.adopted and not self._alive(domain):
                owner = {"uuid": uuid, "cluster": self._cluster, "machine": domain.machine}
                await self._keeper.ask("unmark", **owner)
        elif domain.owner not in ("", self._cluster):
            what = f"domain {domain.name} is marked as that of another installation ({domain.owner})"
            self._events.event(vm, EventType.WARNING, "ForeignOwner", what)
        elif not (domain.owner and self._alive(domain)) and not self._has_instance(vm):
            await self._mark(vm, domain)

    async def _mark(self, vm: Obj, domain: Domain) -> None:
        owner = {"uuid": domain.uuid, "cluster": self._cluster, "machine": vm["metadata"]["uid"]}
        try:
            await self._keeper.ask(
                "mark", **owner, mark=mark.text(self._cluster, vm, adopted=True), before=domain.machine
            )
        except HostError as error:
            if self._keeper.seen.failure is None:
                what = f"domain {domain.name} cannot be marked as this machine's: {error}"
                self._events.event(vm, EventType.WARNING, "MarkFailed", what)
            raise

    def _alive(self, domain: Domain) -> bool:
        """Whether the machine that a mark names is there: an instance, or a VirtualMachine that stays."""
        if self._vmis.by_index(UID_INDEX, domain.machine):
            return True
        machines = self._vms.by_index(UID_INDEX, domain.machine)
        there = f"{self._name}/{domain.uuid}"  # a machine that went to another host has let go of it
        return any(adopts(one) == there and not one["metadata"].get("deletionTimestamp") for one in machines)

    def _has_instance(self, vm: Obj) -> bool:
        """Whether an instance is at work, which marks the domain itself."""
        vmi = self._vmis.get(vm["metadata"]["namespace"], vm["metadata"]["name"])
        return vmi is not None and bool((vmi.get("status") or {}).get("nodeName"))
