"""The start of a machine on an endpoint: held, its disks brought, its domain defined with its mark, bound, started.

Each step may be repeated: what is there already stays. A domain that was there before the machine is marked and left as
it is. A domain of somebody else's is never touched, whatever UUID or name it has.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from polyvisor.agent.errors import AgentError
from polyvisor.agent.images.store import ImageStore
from polyvisor.agent.platform.endpoint import mark, rendering, telling
from polyvisor.agent.platform.endpoint.adopted import UID_INDEX
from polyvisor.agent.platform.endpoint.bringing import Bringer
from polyvisor.agent.platform.endpoint.given import Given
from polyvisor.agent.platform.endpoint.host_node import architecture_of
from polyvisor.agent.platform.endpoint.inventory import Domain, domain_of
from polyvisor.agent.platform.endpoint.keeper import Keeper
from polyvisor.agent.platform.endpoint.link import HostError
from polyvisor.api import Obj
from polyvisor.api.adopted import ADOPTED_SPEC_ANNOTATION
from polyvisor.api.endpoint_names import ADOPT_ANNOTATION, ENDPOINT_FINALIZER
from polyvisor.api.names import EventType, Reason
from polyvisor.api.resources import VMIS
from polyvisor.drivers.base import Driver
from polyvisor.kube import EventRecorder, Informer, KubeClient, key_of

START_SECONDS = 180.0
START_PAUSED = "Paused"


class Starter:
    """Starts the machines of one endpoint. All methods raise :class:`AgentError` and :class:`HostError`."""

    def __init__(
        self,
        client: KubeClient,
        events: EventRecorder,
        keeper: Keeper,
        vmis: Informer,
        vms: Informer,
        bringer: Bringer,
        write: Callable[[Obj, Obj], Awaitable[None]],
        *,
        cluster: str,
        images: Callable[[], ImageStore | None],
        node: KubeClient | None = None,
    ) -> None:
        self._client = client
        self._events = events
        self._keeper = keeper
        self._vmis, self._vms = vmis, vms
        self._bringer = bringer
        self._write = write
        self._cluster = cluster
        self._images = images
        self._given = Given(node or client)
        self.sizes: dict[str, Mapping[str, int]] = {}
        """Sizes in bytes of the disks of machines that were started here, by uid and volume."""

    @property
    def _name(self) -> str:
        return str(self._keeper.endpoint["metadata"]["name"])

    async def start(self, vmi: Obj, pod: Obj | None, domain: Domain | None, driver: Driver) -> None:
        """Have a machine's domain run: made, taken over, or begun as it is; ``domain`` is what the host has of it."""
        vmi = await self._held(vmi)
        adopting = (vmi["metadata"].get("annotations") or {}).get(ADOPT_ANNOTATION)
        paused = vmi["spec"].get("startStrategy") == START_PAUSED
        running = domain is not None and domain.active and adopting == domain.uuid
        if domain is not None and (adopting == domain.uuid or (domain.adopted and self._is_mine(domain, vmi))):
            if not is_its(domain, vmi, self._cluster):
                await self._take_over(vmi, domain)
            if not domain.active and not _unchanged(vmi):
                domain = await self._define(vmi, pod, driver, adopted=domain.name)
        else:
            if domain is not None and not is_its(domain, vmi, self._cluster):
                self._refuse_foreign(domain)
            domain = await self._define(vmi, pod, driver)
        await self._bind(vmi, domain)
        told = domain_of(await self._keeper.ask("start", START_SECONDS, **owner_of(vmi, self._cluster), paused=paused))
        if told is None or not told.active:
            raise AgentError("the domain is not running after it was started")
        if running:
            what = f"Domain {domain.name} was running and is taken over as it is."
            self._events.event(vmi, EventType.NORMAL, "Adopted", what)
            return
        self._events.event(vmi, EventType.NORMAL, Reason.CREATED, "VirtualMachineInstance defined.")
        self._events.event(vmi, EventType.NORMAL, Reason.STARTED, "VirtualMachineInstance started.")

    def _is_mine(self, domain: Domain, vmi: Obj) -> bool:
        """Whether a domain has the mark of an instance or of its VirtualMachine, which has the instance's name."""
        if domain.owner != self._cluster or not domain.machine:
            return False
        vms = self._vms.by_index(UID_INDEX, domain.machine)
        return domain.machine == vmi["metadata"]["uid"] or any(key_of(vm) == key_of(vmi) for vm in vms)

    def _is_alive(self, domain: Domain) -> bool:
        """Whether there is a machine that a mark names: an instance or a VirtualMachine."""
        copies = (self._vmis, self._vms) if domain.machine else ()
        return any(copy.by_index(UID_INDEX, domain.machine) for copy in copies)

    def _refuse_foreign(self, domain: Domain) -> None:
        if domain.owner == self._cluster and domain.machine and not domain.adopted and not self._is_alive(domain):
            return  # of an instance of before that is gone: it is defined anew
        message = f"the UUID {domain.uuid} is that of domain {domain.name} on the host of endpoint {self._name}"
        raise AgentError(f"{message}, which is not this machine's; give another spec.domain.firmware.uuid", retry=False)

    async def _take_over(self, vmi: Obj, domain: Domain) -> None:
        """Mark a domain that was there before, and change nothing else of it."""
        theirs = self._is_alive(domain) and not self._is_mine(domain, vmi)
        if domain.owner not in ("", self._cluster) or theirs:
            whose = "another installation" if domain.owner != self._cluster else "another machine"
            raise AgentError(f"domain {domain.name} is marked as that of {whose} and is not taken over", retry=False)
        text = mark.text(self._cluster, vmi, adopted=True)
        await self._keeper.ask("mark", **owner_of(vmi, self._cluster), mark=text, before=domain.machine)

    async def _define(self, vmi: Obj, pod: Obj | None, driver: Driver, adopted: str = "") -> Domain:
        """Define a machine's domain; ``adopted`` is the name of the one that was there before, which it replaces."""
        places = await self._places(vmi, pod, driver)
        owner = {key: value for key, value in owner_of(vmi, self._cluster).items() if key != "uuid"}
        for suffix in (False, True):
            xml = await asyncio.to_thread(
                rendering.domain_xml, vmi, driver, places, self._cluster, suffix=suffix, adopted=adopted
            )
            try:
                told = await self._keeper.ask("define", xml=xml, anew=not driver.redefines, **owner)
            except HostError as error:
                if error.code != "name-taken" or suffix:
                    raise
                continue
            defined = domain_of(told)
            if defined is None:
                raise HostError("the launcher does not say which domain it defined", "bad-answer")
            return replace(defined, state="shutoff")
        raise AssertionError("the second name is the last")

    async def _places(self, vmi: Obj, pod: Obj | None, driver: Driver) -> rendering.Places:
        images = self._images()
        if images is None:
            raise AgentError("the store of images is not open yet")
        inputs, volumes = await self._given.inputs(vmi, pod or {})
        brought = await self._bringer.bring(vmi, driver, images, inputs, volumes, self._progress(vmi))
        told = await self._keeper.every("networks", "networks") if telling.interfaces(vmi) else []
        known = [one.get("name") for one in told]
        networks = rendering.networks_of(vmi, self._keeper.endpoint, [str(name) for name in known])
        host = self._keeper.seen.host
        architecture = architecture_of(host.capabilities) if host is not None else ""
        self.sizes[vmi["metadata"]["uid"]] = brought.sizes
        return rendering.Places(brought.disks, networks, architecture or "x86_64", brought.kernel, brought.initrd)

    def _progress(self, vmi: Obj) -> Callable[[str], None]:
        loop = asyncio.get_running_loop()

        def say(text: str) -> None:
            message = text[:1].upper() + text[1:]
            loop.call_soon_threadsafe(self._events.event, vmi, EventType.NORMAL, "Preparing", message)

        return say

    async def _held(self, vmi: Obj) -> Obj:
        """Hold the machine's object before anything is made for it."""
        metadata = vmi["metadata"]
        if ENDPOINT_FINALIZER in (metadata.get("finalizers") or []):
            return vmi
        change = {"finalizers": [*(metadata.get("finalizers") or []), ENDPOINT_FINALIZER]}
        body = {"metadata": {**change, "resourceVersion": metadata["resourceVersion"]}}
        held = await self._client.patch(VMIS, metadata["name"], body, metadata["namespace"])
        self._vmis.learn(held)
        return held

    async def _bind(self, vmi: Obj, domain: Domain) -> None:
        new = copy.deepcopy((self._vmis.get(*key_of(vmi)) or vmi).get("status") or {})
        telling.bound(new, self._name, domain)
        await self._write(vmi, new)


def _unchanged(vmi: Obj) -> bool:
    """Whether an adopted domain is begun as it is defined on the host: its template is as it was at the adoption."""
    return ADOPTED_SPEC_ANNOTATION in (vmi["metadata"].get("annotations") or {})


def is_its(domain: Domain, vmi: Obj, cluster: str) -> bool:
    """Whether a domain is marked as this very machine's."""
    return (domain.owner, domain.machine) == (cluster, vmi["metadata"]["uid"])


def owner_of(vmi: Obj, cluster: str) -> dict[str, str]:
    """Return by which words the launcher is asked to do something to a machine's domain."""
    return {"uuid": telling.uuid_of(vmi), "cluster": cluster, "machine": vmi["metadata"]["uid"]}
